"""Access to pages of the studio, and scripts in place of its jobs."""

import shutil
import sys
import textwrap

RUN_LENS = "#run-lens .lens[data-frame]"


def lens_state(page):
    return page.evaluate(f"inspect('{RUN_LENS}').state")


def wait_scene(page, name):
    page.wait_for_function(f"inspect('{RUN_LENS}')?.state.scene === '{name}'", timeout=60000)


def wait_text(page, selector, text):
    page.locator(selector, has_text=text).first.wait_for(timeout=60000)


def empty_folder(folder):
    for entry in folder.iterdir():
        shutil.rmtree(entry)


def script(text):
    lead = "import json, sys, time\nrequest = json.load(sys.stdin)\ndef write(**w): print(json.dumps(w), flush=True)\n"
    return [sys.executable, "-c", lead + textwrap.dedent(text)]


ROWS = [
    {"name": "small", "role": "student", "parameters": 1000, "frames": 3, "feature_channels": 16, "year": 2017,
     "paper": "A <b>paper</b>", "what": "a small one", "macs": 2_000_000_000},
    {"name": "large", "role": "teacher", "parameters": 9000, "frames": None, "feature_channels": 0, "year": 2019,
     "paper": "Another", "what": "a large one", "macs": 30_000_000_000},
]  # fmt: skip


WORK = {
    "estimate": "write(result={'seconds_per_step': 2.0, 'peak_mib': 512.0, 'free_mib': 2048.0, 'fits': True})",
    "speed": """
        one = {'parameters': 1, 'macs': 1, 'seconds_per_frame': 0.25, 'peak_bytes': 2**20}
        seen = [one | {'name': name} for name in request['names']]
        write(result={'rows': seen, 'conditions': 'here and now'})
    """,
    "upscale": """
        import pathlib
        from tests import specimens
        if request['methods'] == ['bicubic']:
            write(status='for a long time'); time.sleep(60)
        specimens.make_scene(pathlib.Path(request['folder']), frames=2, title=request['title'])
        write(result={'scene': 'x'})
    """,
}
