// ---------------------------------- x-t slice: one row of the picture over time; downwards is later, a line is a frame

let slices = [];                                    // [{ key, canvas, context, mark, box }]
let slicing = 0;                                    // counts rows asked for; only the newest is drawn

function makeSlices() {
  slicing++;
  part('slices').replaceChildren();
  slices = [];
  if (!scene || !view.panels.has('slice')) return;
  const high = clamp(Math.floor(144 / scene.frames), 1, 10);
  slices = scene.methods.filter(m => !view.absent.has(m.key)).map(({ key }) => {
    const canvas = node('canvas', { width: scene.width, height: scene.frames }), context = canvas.getContext('2d');
    const mark = node('i', { className: 'lens-now' });
    context.imageSmoothingEnabled = false;
    canvas.style.height = `${scene.frames * high}px`;
    const view_ = node('div', { className: 'lens-slice' }, canvas, mark);
    view_.setAttribute('role', 'img');
    view_.setAttribute('aria-label', `Row of ${method(key).label} over time`);
    view_.onclick = event => {
      const place = canvas.getBoundingClientRect();
      pinAt((event.clientX - place.left) / place.width * scene.width, view.row);
      seek(Math.floor((event.clientY - place.top) / place.height * scene.frames));
    };
    const box = node('div', {}, node('span', { className: 'lens-name' }, dot(key), method(key).label), view_);
    return { key, canvas, context, mark, box };
  });
  part('slices').append(...slices.map(one => one.box));
  part('row').max = scene.height - 1;
  cut();
}

// Draws the row of every frame; the frames near the one on show first.
function cut() {
  const mine = ++slicing, { row } = view, gone = () => mine !== slicing;
  part('row').value = row;
  if (!slices.length) return;
  let left = scene.frames * slices.length, missing = 0;
  part('cutting').textContent = '';
  const order = Array.from({ length: scene.frames }, (_, i) => i).sort((a, b) => Math.abs(a - frame) - Math.abs(b - frame));
  for (const index of order) {
    for (const { key, context } of slices) {
      glimpse(addressOf(method(key).frames, index), bitmap => {
        const from = Math.floor((row + 0.5) * bitmap.height / scene.height);
        context.drawImage(bitmap, 0, from, bitmap.width, 1, 0, index, scene.width, 1);
      }, gone).then(came => {
        left--;
        missing += !came;
        if (!gone()) part('cutting').textContent = left ? `${left} pictures to come` : missing ? `${missing} pictures are missing.` : '';
      });
    }
  }
  markSlices();
}

function markSlices() {
  for (const { mark } of slices) {
    mark.style.top = `${frame / scene.frames * 100}%`;
    mark.style.height = `${100 / scene.frames}%`;
  }
}

function rowAt(row) {
  view.row = clamp(Math.round(row), 0, scene.height - 1);
  marks();
  cut();
}
