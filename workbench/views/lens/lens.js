// The lens: several renderings of one clip, frame by frame, in step. The adapters (gr.HTML, anywidget) hand in element,
// trigger(event, data), props and watch(name, callback). All files that __init__.py lists share one scope: this one holds
// the state and goes from frame to frame; handling.js, the last, ties everything to buttons and keys.
// props.value is what payload.py makes; props.goto is a frame (or [frame, count] to go to the same frame twice);
// props.steps is { all: [training step], at } where there are snapshots to choose from.

const root = element.querySelector('.lens');
const parts = Object.fromEntries([...root.querySelectorAll('[data-part]')].map(found => [found.dataset.part, found]));
const part = name => parts[name];
const clamp = (value, low, high) => Math.max(low, Math.min(high, value));
const LAYOUTS = ['wipe', 'grid', 'flicker', 'difference'];
const ZOOMS = ['fit', 1, 2, 3, 4, 6, 8];
const ENLARGE = [2, 3, 4, 6, 8, 12, 16];
const PANELS = ['slice', 'differences', 'worst'];
const AHEAD = 6;                                    // frames fetched before they are asked for

let scene = null;
let turn = 0;                                       // counts wishes for a frame; only the newest may draw
let frame = 0;                                      // what is on show
let wanted = 0;                                     // what was asked for last
const view = {
  layout: 'wipe', left: '', right: '', absent: new Set(['low']), wipe: 0.5, gain: 4, flipped: false, zoom: 'fit', overlay: '',
  attention: '', opacity: 0.65, channel: 0, maps: true, loupe: true, point: [0, 0], pinned: false, speed: 1, playing: false, score: '', muted: new Set(),
  pan: [0, 0], enlarge: 'auto', panels: new Set(), row: 0, worst: '',
};
const START = { ...view, absent: new Set(view.absent) };   // what the address of the page need not say

const method = key => scene.methods.find(m => m.key === key);
const overlay = () => scene.overlays.find(o => o.kind === view.overlay) || null;
const say = text => { if (part('status').textContent !== text) part('status').textContent = text; };

// ------------------------------------------------------------------------------------- going to a frame, all in step

// Draws frame `index` when every picture of it is there (or known to be missing), unless a newer wish has come meanwhile.
function show(index) {
  if (!scene) return Promise.resolve(false);
  const mine = ++turn;
  wanted = clamp(Math.round(index), 0, scene.frames - 1);
  const jobs = needed(wanted), entries = jobs.map(load);
  if (!entries.some(entry => entry instanceof Promise)) {   // all at hand: draw now, not a tick later
    arrive();
    return Promise.resolve(true);
  }
  const soon = new Set(jobs.map(job => job.address));
  for (let d = 1; d <= AHEAD; d++) if (wanted + d < scene.frames) needed(wanted + d).forEach(job => soon.add(job.address));
  abortAllBut(soon);
  return Promise.all(entries).then(() => {
    if (mine !== turn) return false;
    arrive();
    return true;
  });
}

function arrive() {
  frame = wanted;
  draw();
  const missing = needed(frame).filter(job => failed.has(job.address));
  say(missing.map(job => `${method(job.key).label}, frame ${frame + 1}${job.grey ? ', map' : ''}: ${failed.get(job.address)}`).join('; '));
  for (let d = 1; d <= AHEAD; d++) needed((frame + d) % scene.frames).forEach(load);
  tell();
}

// Start of a frame in seconds; frames follow scene.fps where the scene has no times of their own.
const startOf = index => scene.times ? scene.times[index] : index / scene.fps;

// The frame that is shown at a time, searched from a frame that is not later; scene.frames behind the end.
function frameAt(seconds, index) {
  if (!scene.times) return Math.min(scene.frames, Math.floor(seconds * scene.fps + 1e-6));
  while (index < scene.frames && scene.times[index + 1] <= seconds) index++;
  return index;
}

let telling = 0;
function tell() {                                   // Python hears where somebody stays, not every frame on the way
  clearTimeout(telling);
  telling = setTimeout(() => { if (scene && !view.playing) trigger('select', { frame }); }, 150);
}

function play() {
  if (!scene) return;
  if (view.playing) return stop();
  view.playing = true;
  marks();
  let since = performance.now(), from = frame >= scene.frames - 1 ? 0 : frame, speed = view.speed, busy = false;
  const tick = now => {
    if (!view.playing || !scene) return;
    if (speed !== view.speed) [since, from, speed] = [now, frame, view.speed];
    const due = frameAt(startOf(from) + (now - since) / 1000 * speed, from);
    if (due >= scene.frames) [since, from] = [now, 0];
    if (!busy && due !== frame) {
      const came = show(due >= scene.frames ? 0 : due);
      busy = true;
      came.finally(() => { busy = false; });
    }
    requestAnimationFrame(tick);
  };
  requestAnimationFrame(tick);
}

function stop() {
  view.playing = false;
  [turn, wanted] = [turn + 1, frame];               // a picture still on its way must not move the clip once it has stopped
  marks();
  tell();
}

function seek(index) {
  if (view.playing) stop();
  return show(index);
}
