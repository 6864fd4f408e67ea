// ------------------------------------------------------------------------ controls: what is chosen, and what there is to choose

function controls() {                               // what the chosen layout has no use for is not there
  for (const button of part('layouts').children) button.setAttribute('aria-checked', button.dataset.layout === view.layout);
  part('pair').hidden = view.layout === 'grid';
  part('chips').hidden = view.layout !== 'grid';
  part('flicker').hidden = view.layout !== 'flicker';
  part('gains').hidden = view.layout !== 'difference';
  part('overlays').hidden = !scene.overlays.length || view.layout === 'difference';
  part('fading').hidden = !view.overlay;
  part('side').hidden = !view.loupe && !shownMaps().length;
  part('loupes').hidden = !view.loupe;
  part('maps').checked = view.maps;
  part('attention').hidden = !view.maps || !attention();
  part('cells').hidden = !view.maps || !memoryCells();
  part('attention-kind').value = attention()?.kind ?? '';
  part('enlarge').value = view.enlarge;
  for (const button of part('panels').children) {
    const on = view.panels.has(button.dataset.panel);
    button.setAttribute('aria-pressed', on);
    button.hidden = (button.dataset.panel === 'differences' && !(attention() && mapPairs(attention()).length)) || (button.dataset.panel === 'worst' && !scene.curves.length);
    part(button.dataset.panel).hidden = !on || button.hidden;
  }
  part('left').value = view.left;
  part('right').value = view.right;
  part('overlay').value = view.overlay;
  part('opacity').value = view.opacity;
  part('zoom').value = view.zoom;
  part('film').hidden = !onShow().length || !filmAddress();
  part('gain').value = view.gain;
  part('loupe').checked = view.loupe;
  for (const chip of part('chips').children) chip.setAttribute('aria-pressed', !view.absent.has(chip.dataset.key));
  const channels = Math.max(overlay()?.channels || 1, memoryCells()?.channels || 1);
  part('channels').hidden = !(overlay()?.channels > 1);
  view.channel = clamp(view.channel, 0, channels - 1);
  for (const name of ['channel', 'cell']) {
    part(name).replaceChildren(...Array.from({ length: channels }, (_, i) => node('option', { value: i, textContent: i })));
    part(name).value = view.channel;
  }
}

function rearrange() {                              // after a change of layout, methods or map
  if (!scene) return;
  if (view.layout !== 'flicker') { part('blink').checked = false; view.flipped = false; }
  controls();
  makeCells();
  makeLegend();
  makeMaps();
  makeSlices();
  makeWorst();
  marks();                                          // names at once, pictures when they are there
  show(wanted);
}

// ------------------------------------------------------------------------------------------------------ a new value

function choose(preferred, present, fallback) {
  return preferred.find(key => present.includes(key)) || fallback;
}

// The sides as the lens filled them. A person's choice is kept; its own is made again with every scene, since the
// students of a run come later than the rest of its validation clip.
const filled = { left: null, right: null };

function setValue(given) {
  const value = given && JSON.parse(JSON.stringify(given));   // out of the reactive wrapping: plain and fast to read
  const kept = scene && value?.frames && ['width', 'height', 'frames'].every(name => scene[name] === value[name]);
  turn++;
  abortAllBut(new Set());
  failed.clear();
  part('body').hidden = !value?.frames;
  part('empty').hidden = !!value?.frames;
  part('empty').textContent = value?.message || 'Nothing to show yet.';
  if (!value?.frames) {
    scene = null;
    stop();
    return;
  }
  scene = value;
  for (const m of scene.methods) m.frames = settled(m.frames);
  for (const o of scene.overlays) for (const map of Object.values(o.maps)) map.frames = settled(map.frames);
  if (!kept) {
    if (view.playing) stop();
    wanted = frame = 0;
    Object.assign(view, { pinned: false, point: [scene.width >> 1, scene.height >> 1], pan: [0, 0], row: scene.height >> 1 });
  }
  const box = asked ? recall() : null, keys = scene.methods.map(m => m.key);
  for (const [side, preferred, fallback] of [['left', ['plain', 'bicubic'], keys[0]], ['right', ['distilled', 'student', 'teacher'], keys.at(-1)]]) {
    if (!keys.includes(view[side]) || view[side] === filled[side]) view[side] = filled[side] = choose(preferred, keys, fallback);
  }
  if (!overlay()) view.overlay = '';
  if (!scene.curves.some(c => c.key === view.score)) view.score = scene.curves[0]?.key || '';
  wanted = Math.min(wanted, scene.frames - 1);
  for (const side of ['left', 'right']) part(side).replaceChildren(...scene.methods.map(m => node('option', { value: m.key, textContent: m.label })));
  part('overlay').replaceChildren(node('option', { value: '', textContent: 'none' }), ...scene.overlays.map(o => node('option', { value: o.kind, textContent: o.label })));
  part('attention-kind').replaceChildren(...flatMaps().map(o => node('option', { value: o.kind, textContent: o.label.split(': ').at(-1) })));
  part('chips').replaceChildren(...scene.methods.map(m => {
    const chip = node('button', { type: 'button', title: m.note }, dot(m.key), m.label);
    chip.dataset.key = m.key;
    chip.onclick = () => toggle(m.key);
    return chip;
  }));
  part('scrub').max = scene.frames - 1;
  makeLoupe();
  makeCurves();
  makeSimilarity();
  stepper();
  rearrange();
  if (box) panTo(box[0] + (box[2] - seen[0]) / 2, box[1] + (box[3] - seen[1]) / 2);   // the same middle, whatever fits here
}

// The second slider: training steps. Python answers with the scene of that step; frame, layout and panels stay.
let chosen = null, telling_ = 0;                    // chosen: what was asked for and has not come yet

const training = () => (props.steps?.all?.length ? props.steps : null);

function stepper() {
  const steps = training();
  if (!steps || steps.at === chosen || !steps.all.includes(chosen)) chosen = null;
  part('stepping').hidden = !(steps?.all.length > 1);
  if (!steps) return;
  const at = steps.all.indexOf(chosen ?? steps.at);
  part('step').max = steps.all.length - 1;
  part('step').value = at;
  part('step').setAttribute('aria-valuetext', `training step ${steps.all[at]}`);
  part('trained').textContent = `step ${steps.all[at]}`;
}

function stepTo(index) {
  const { all } = training();
  chosen = all[clamp(index, 0, all.length - 1)];
  const asked_ = chosen;
  stepper();
  clearTimeout(telling_);
  telling_ = setTimeout(() => { trigger('step', { step: asked_, follow: false }); }, 120);
}

const stepBy = by => training() && stepTo(training().all.indexOf(chosen ?? training().at) + by);

// --------------------------------------------------------------------------------------------- buttons and keys

function toggle(key) {
  if (!view.absent.delete(key)) view.absent.add(key);
  rearrange();
}

function layout(name) { view.layout = name; rearrange(); }
function flip() { view.flipped = !view.flipped; draw(); }
function loupe(on) { view.loupe = on; controls(); fit(); show(wanted); }
function maps(on) { view.maps = on; rearrange(); }
function pick(name, key) { view[name] = key; rearrange(); }
function panel(name, on = !view.panels.has(name)) {
  if (on) view.panels.add(name); else view.panels.delete(name);
  if (on && name === 'slice') view.row = view.point[1];
  rearrange();
}
function enlargeBy(by) {
  const at = ENLARGE.findIndex(power_ => power_ >= power);
  view.enlarge = ENLARGE[clamp((at < 0 ? ENLARGE.length - 1 : at) + by, 0, ENLARGE.length - 1)];
  controls();
  fitLoupe();
}
function nextOverlay() {
  const kinds = ['', ...scene.overlays.map(o => o.kind)];
  pick('overlay', kinds[(kinds.indexOf(view.overlay) + 1) % kinds.length]);
}

part('play').onclick = play;
part('back').onclick = () => seek(wanted - 1);
part('next').onclick = () => seek(wanted + 1);
part('scrub').oninput = event => seek(Number(event.target.value));
part('speed').onchange = event => { view.speed = Number(event.target.value); };
for (const button of part('layouts').children) button.onclick = () => layout(button.dataset.layout);
part('left').onchange = event => pick('left', event.target.value);
part('right').onchange = event => pick('right', event.target.value);
part('swap').onclick = () => { [view.left, view.right] = [view.right, view.left]; rearrange(); };
part('flip').onclick = flip;
part('gain').onchange = event => { view.gain = Number(event.target.value); draw(); };
part('zoom').onchange = event => zoomTo(event.target.value === 'fit' ? 'fit' : Number(event.target.value));
part('enlarge').onchange = event => { view.enlarge = event.target.value === 'auto' ? 'auto' : Number(event.target.value); fitLoupe(); };
part('patches').onkeydown = event => {              // arrows move the loupe while it has the focus
  const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (!by || !scene) return;
  pinAt(view.point[0] + by[0], view.point[1] + by[1]);
  event.preventDefault();
  event.stopPropagation();
};
part('step').oninput = event => stepTo(Number(event.target.value));
for (const button of part('panels').children) button.onclick = () => panel(button.dataset.panel);
part('row').onchange = event => rowAt(Number(event.target.value) || 0);
part('worst-of').onchange = event => { view.worst = event.target.value; makeWorst(); remember(); };
part('copy').onclick = copyFigure;
part('save').onclick = saveFigure;
part('film').onclick = saveFilm;
part('loupe').onchange = event => loupe(event.target.checked);
part('overlay').onchange = event => pick('overlay', event.target.value);
part('opacity').oninput = event => { view.opacity = Number(event.target.value); draw(); };
for (const name of ['channel', 'cell']) part(name).onchange = event => { view.channel = Number(event.target.value); rearrange(); };
part('attention-kind').onchange = event => { view.attention = event.target.value; makeSimilarity(); rearrange(); };
part('maps').onchange = event => { view.maps = event.target.checked; rearrange(); };
part('ask').onclick = help;
const blinking = setInterval(() => {                // 1.25 changes a second: far below what can harm
  if (!root.isConnected) clearInterval(blinking);
  else if (scene && part('blink').checked && view.layout === 'flicker') flip();
}, 800);

const KEYS = [
  ['← →', 'one frame back, on', { ArrowLeft: () => seek(wanted - 1), ArrowRight: () => seek(wanted + 1) }],
  ['Home End', 'first, last frame', { Home: () => seek(0), End: () => seek(scene.frames - 1) }],
  ['space', 'play, pause', { ' ': play }],
  ['[ ]', 'earlier, later training step', { '[': () => stepBy(-1), ']': () => stepBy(1) }],
  ['1 2 3 4', 'wipe, side by side, flicker, difference', Object.fromEntries(LAYOUTS.map((name, i) => [i + 1, () => layout(name)]))],
  ['shift 1 … 9', 'that method on the right; side by side: show or hide it', {}],
  ['f', 'flip (and go to flicker)', { f: () => { if (view.layout !== 'flicker') layout('flicker'); else flip(); } }],
  ['+ − 0', 'zoom in, out, fit; shift and arrows move the picture', {
    '+': () => zoomBy(1), '=': () => zoomBy(1), '-': () => zoomBy(-1), 0: () => zoomTo('fit'),
    ShiftArrowLeft: () => panBy(-8, 0), ShiftArrowRight: () => panBy(8, 0), ShiftArrowUp: () => panBy(0, -8), ShiftArrowDown: () => panBy(0, 8) }],
  ['l', 'loupe', { l: () => loupe(!view.loupe) }],
  ['< >', 'loupe: smaller, larger pixels', { '<': () => enlargeBy(-1), '>': () => enlargeBy(1) }],
  ['o', 'next map', { o: nextOverlay }],
  ['x', 'x–t slice: a row over time; ↑ ↓ choose the row', {
    x: () => panel('slice'), ArrowUp: () => view.panels.has('slice') && rowAt(view.row - 1), ArrowDown: () => view.panels.has('slice') && rowAt(view.row + 1) }],
  ['m', 'attention maps and memory cells', { m: () => maps(!view.maps) }],
  ['a', 'differences of the attention maps', { a: () => panel('differences') }],
  ['w', 'worst frames first', { w: () => panel('worst') }],
  ['c s', 'copy, save what is shown as a figure', { c: copyFigure, s: saveFigure }],
  ['?', 'this list', { '?': help }],
];
part('help').replaceChildren(...KEYS.flatMap(([keys, what]) => [node('dt', { textContent: keys }), node('dd', { textContent: what })]),
  node('dt', { textContent: 'drag' }), node('dd', { textContent: 'move the wipe, a zoomed picture, the loupe, or the cursor in a curve' }),
  node('dt', { textContent: 'click' }), node('dd', { textContent: 'pin the loupe and choose the row of the slice; a curve’s title puts its numbers on the pictures' }),
  node('dt', { textContent: 'ctrl and wheel' }), node('dd', { textContent: 'zoom where the pointer is' }));

function help() {
  part('help').hidden = !part('help').hidden;
  part('ask').setAttribute('aria-expanded', !part('help').hidden);
}

root.addEventListener('keydown', event => {
  if (!scene || event.ctrlKey || event.metaKey || event.altKey || /INPUT|SELECT|TEXTAREA/.test(event.target.tagName)) return;
  if (event.target.tagName === 'BUTTON' && (event.key === ' ' || event.key === 'Enter')) return;
  const digit = event.shiftKey && /^Digit([1-9])$/.exec(event.code);
  const chosen = digit && scene.methods[Number(digit[1]) - 1];
  const act = chosen ? () => (view.layout === 'grid' ? toggle(chosen.key) : pick('right', chosen.key)) : KEYS.map(key => key[2][(event.shiftKey && event.key.startsWith('Arrow') ? 'Shift' : '') + event.key]).find(Boolean);
  if (!act || act() === false) return;              // false: nothing to do here, the page may have the key
  event.preventDefault();
});

new ResizeObserver(() => fit()).observe(part('main'));

root.lens = element.lens = {                        // for tests and the curious
  get state() { return { ...view, absent: [...view.absent], muted: [...view.muted], panels: [...view.panels], shown: scene ? onShow() : [], frame, wanted, scene: scene?.id }; },
  get stats() { return { frames: cache.size, bytes, pending: pending.size, failed: [...failed.entries()] }; },
  show: seek,
  readPixels(key) {                                 // the bitmap as it came, RGBA, at its own size
    const bitmap = pictureOf(key), canvas = node('canvas', { width: bitmap.width, height: bitmap.height });
    const context = canvas.getContext('2d');
    context.drawImage(bitmap, 0, 0);
    return context.getImageData(0, 0, bitmap.width, bitmap.height);
  },
  readSlice: index => slices[index].context.getImageData(0, 0, scene.width, scene.frames),
  readMap(index) {
    const { canvas } = mapViews[index];
    return canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  },
  readFigure() {
    const made = figure();
    return made.getContext('2d').getImageData(0, 0, made.width, made.height);
  },
  readCell: index => cells[index].context.getImageData(0, 0, scene.width, scene.height),
  readValue: (key, x, y) => overlay() && valueAt(overlay(), key, [x, y]),
};

watch('value', () => setValue(props.value));
watch('steps', () => stepper());
watch('goto', () => {
  const to = Array.isArray(props.goto) ? props.goto[0] : props.goto;
  if (scene && exists(to)) seek(to);
});
setValue(props.value);
