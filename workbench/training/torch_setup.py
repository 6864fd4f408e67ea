"""Process-wide settings of torch for training; each with its reason and its off switch."""

from __future__ import annotations

import ctypes
import os
import platform

import cv2
import torch

from workbench.choices import MemoryFormat
from workbench.devices import set_num_threads
from workbench.models.video_sr import VideoSR


def configure_torch(threads: int) -> None:
    """Configure this process: number of threads, denormal numbers, memory allocation.

    - Threads of torch and of OpenCV: the given number; 0: :func:`workbench.devices.default_threads`.
    - Denormal numbers (below 1e-38) become 0. Small gradients contain many of them, and a CPU takes a hundred times as
      long for each: steps of ``edvr_s`` slowed down from 2.6 s to 7 s within its first hundred.
      ``WORKBENCH_FLUSH_DENORMAL=0`` switches that off. Existing threads are not affected.
    - glibc returns every large block to the system, and the next allocation causes page faults; keeping the blocks is
      up to 1.6 times faster on high-resolution tensors. ``WORKBENCH_KEEP_MEMORY=0`` switches that off.
    """
    torch.set_flush_denormal(os.environ.get("WORKBENCH_FLUSH_DENORMAL", "1") != "0")
    set_num_threads(threads)
    cv2.setNumThreads(torch.get_num_threads())
    if platform.libc_ver()[0] == "glibc" and os.environ.get("WORKBENCH_KEEP_MEMORY", "1") != "0":
        m_trim_threshold, m_mmap_max = -1, -4
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(m_mmap_max, 0)
        libc.mallopt(m_trim_threshold, 2**31 - 1)


def set_memory_format(network: VideoSR, memory_format: MemoryFormat) -> VideoSR:
    """Convert a network's weights to a memory format; without a choice (``auto``) to channels last."""
    target = torch.contiguous_format if memory_format == "contiguous" else torch.channels_last
    return network.to(memory_format=target)  # pyright: ignore[reportCallIssue]
