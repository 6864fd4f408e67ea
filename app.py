"""Open the studio: ``python app.py``; the same as ``workbench app``."""

from workbench.cli import launch_app

if __name__ == "__main__":
    launch_app()
