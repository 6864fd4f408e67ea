"""The studio: pages in the browser, over run and scene folders; compare, train, and look at both.

Every page is a file: what it asks for are plain functions or methods, without gradio, and at the end a function lays
the page out. :func:`launch` serves the pages with the pictures of :class:`~workbench.views.serving.Gallery`. What needs
networks is handed in (:class:`~workbench.views.studio.services.Services`): nothing here imports torch.
"""

import os

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is imported: nothing is looked up outside

from workbench.views.studio.folders import Studio
from workbench.views.studio.serve import build_studio, check_port, launch
from workbench.views.studio.services import Services

__all__ = ["Services", "Studio", "build_studio", "check_port", "launch"]
