"""Open the studio: ``python app.py`` is the same as ``workbench app``."""

import sys

from workbench.cli import main

if __name__ == "__main__":
    sys.exit(main(["app", *sys.argv[1:]]))
