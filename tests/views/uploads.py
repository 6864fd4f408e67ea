"""Limits of uploads, and a secret file that no request may read."""

from workbench.data.video.inspect import Limits
from workbench.views.studio.upload_store import Quota

SECRET = b"the password is swordfish"


MARKUP = "<img src=x onerror=alert(1)>${7*7}{{8*8}}.mp4"


QUOTA = Quota(
    file=Limits(bytes=400_000, side=512, pixels=512 * 512, frames=60, seconds=20.0), bytes=2_000_000, uploads=3
)


SESSION = "a" * 32


def add(store, content, title="video.mp4", session=SESSION):
    path = store.new_file()
    path.write_bytes(content)
    return store.add(path, title, session)


def raises(error):
    raise error
