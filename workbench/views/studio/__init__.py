"""Studio: a Gradio app with a page to compare, run, train and upscale; it reads run and scene folders.

Every page is a file: functions and methods without gradio, and at the end a function that lays out the page.
:func:`launch` serves the pages, and the images with :class:`~workbench.views.serving.SceneFileServer`. Work that needs
networks is passed in (:class:`~workbench.views.studio.services.Services`): nothing here imports torch.
"""

import os

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is imported: no request leaves this machine

from workbench.views.studio.folders import Studio
from workbench.views.studio.serve import build_studio, check_port, launch
from workbench.views.studio.services import Services

__all__ = ["Services", "Studio", "build_studio", "check_port", "launch"]
