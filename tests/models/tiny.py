"""The smallest settings of every network of the zoo: a forward pass on 16x16 takes milliseconds.

The generic suite (``test_every_network.py``) runs over this table; a network that is not in it fails there.
"""

from __future__ import annotations

from typing import Any

TINY: dict[str, dict[str, Any]] = {
    "basicvsr": {"channels": 8, "blocks": 1, "tail_channels": 8},
    "basicvsr_s": {"channels": 8, "blocks": 1, "tail_channels": 8},
    "basicvsrpp": {"channels": 8, "blocks": 1, "groups": 4, "tail_channels": 8},
    "bicubic": {},
    "duf_16l": {"blocks": 1, "growth": 4, "channels": 4, "head_channels": 8},
    "duf_28l": {"blocks": 2, "growth": 2, "channels": 4, "head_channels": 8},
    "duf_52l": {"blocks": 3, "growth": 2, "channels": 4, "head_channels": 8},
    "edvr_l": {"channels": 8, "groups": 2, "front_blocks": 1, "back_blocks": 1, "tail_channels": 8},
    "edvr_m": {"channels": 8, "groups": 2, "front_blocks": 1, "back_blocks": 1, "tail_channels": 8},
    "edvr_s": {},
    "edvr_tiny": {},
    "edvr_xs": {},
    "fastdvdnet": {"channels": 4, "entry_channels": 3},
    "fastdvdnet_vsr": {"channels": 4, "entry_channels": 3, "tail_channels": 4},
    "fastdvdnet_vsr_s": {"channels": 4, "entry_channels": 3, "tail_channels": 4},
    "iconvsr": {"channels": 8, "blocks": 1, "groups": 2, "tail_channels": 8},
    "ltd": {"channels": 4, "modulation_channels": 4, "alignment_channels": 4},
    "pfnl": {"channels": 4, "blocks": 2},
    "rsdn": {"channels": 8, "blocks": 1},
    "spmc": {"channels": 4},
    "tdan": {"channels": 8, "groups": 2, "front_blocks": 1, "back_blocks": 1},
    "toflow": {"channels": 4, "num_frames": 3},
    "vespcn": {"channels": 8, "hr_channels": 8},
    "vespcn_paper": {},
    "vespcn_s": {"channels": 8, "hr_channels": 8},
    "vsrnet": {"channels": 4, "hr_channels": 4},
    "vsrnet_y": {"channels": 4, "hr_channels": 4},
}

KINDS = sorted(TINY.keys() - {"duf_28l", "duf_52l", "edvr_l", "edvr_tiny", "edvr_xs", "fastdvdnet_vsr_s", "vespcn_s"})
"""Networks without those that differ from another one by width, depth or number of frames only."""
