// The viewer of a scene: several methods on one clip, frame by frame. Hosts (Gradio, anywidget, a report page) call
// mountLens(element, { trigger, props, watch }):
//   props.value             the JSON value of payload.py
//   props.steps             { all: [training step], at } where there are snapshots to choose from
//   props.fetch             function in place of fetch, where there is no server; addresses of images are then left as they are
//   props.budget_mib        maximum size of the cache of decoded images; 512 by default
//   trigger(event, data)    'select' with { frame }, 'step' with { step, follow }
//   watch(name, callback)   calls back when a property changes
// Each module adds a part to one `lens` object, which contains the state: scene, frame, wanted, view. The host finds it as
// the property `lens` of the viewer's root.

import { createControls } from './controls.js';
import { createCurves } from './curves.js';
import { base, node } from './dom.js';
import { createFeatureMaps } from './feature_maps.js';
import { createFigure } from './figure.js';
import { addressOf, createImageCache } from './image_cache.js';
import { createLoupe } from './loupe.js';
import { createPermalink } from './permalink.js';
import { createPlayer } from './player.js';
import { createSlice } from './slice.js';
import { createViewport } from './viewport.js';

const DEFAULTS = {
  layout: 'wipe', left: '', right: '', hidden: ['low'], wipe: 0.5, gain: 4, flipped: false, zoom: 'fit', overlay: '', attention: '',
  opacity: 0.65, channel: 0, maps: true, loupe: true, point: [0, 0], pinned: false, speed: 1, playing: false, score: '', muted: [],
  pan: [0, 0], enlarge: 'auto', panels: [], row: 0, worst: '',
};
const LEFT = ['plain', 'bicubic'], RIGHT = ['distilled', 'student', 'teacher'];   // on show first, of those that a scene has

export function mountLens(element, { trigger, props, watch }) {
  const root = element.querySelector('.lens');
  const parts = Object.fromEntries([...root.querySelectorAll('[data-part]')].map(found => [found.dataset.part, found]));
  const part = name => parts[name];
  const view = { ...DEFAULTS, hidden: new Set(DEFAULTS.hidden), muted: new Set(), panels: new Set() };
  const automatic = {};                             // sides that the viewer chose; it chooses again with every scene

  const lens = {
    root, part, props, trigger, view,
    scene: null,
    frame: 0,                                       // on show
    wanted: 0,                                      // requested last
    method: key => lens.scene.methods.find(m => m.key === key),
    overlay: () => lens.scene.overlays.find(o => o.kind === view.overlay) || null,
    score: () => lens.scene.curves.find(curve => curve.key === view.score),
    setStatus: text => { if (part('status').textContent !== text) part('status').textContent = text; },
    dot: key => node('i', { className: 'dot', style: `background: ${lens.method(key).color}` }),
    shown, needed, draw, label, rearrange,
  };
  lens.images = createImageCache(lens);
  lens.player = createPlayer(lens);
  lens.viewport = createViewport(lens);
  lens.maps = createFeatureMaps(lens);
  lens.loupe = createLoupe(lens);
  lens.slice = createSlice(lens);
  lens.curves = createCurves(lens);
  lens.figure = createFigure(lens);
  lens.permalink = createPermalink(lens, DEFAULTS);
  lens.controls = createControls(lens);

  // Keys of the methods in the cells.
  function shown() {
    if (view.layout !== 'grid') return view.left === view.right ? [view.left] : [view.left, view.right];
    return lens.scene.methods.map(m => m.key).filter(key => !view.hidden.has(key));
  }

  // Every image that a frame needs: { key, address, gray }.
  function needed(index) {
    const all = lens.scene.methods.map(m => m.key), keys = view.loupe ? all : shown(), kinds = lens.maps.shown();
    const jobs = keys.map(key => ({ key, address: addressOf(lens.method(key).frames, index), gray: false }));
    for (const map of new Set([lens.overlay(), ...kinds])) {
      for (const key of kinds.includes(map) ? all : keys) if (map?.maps[key]) jobs.push({ key, address: addressOf(map.maps[key].frames, index), gray: true });
    }
    return jobs;
  }

  function draw() {
    lens.viewport.draw();
    label();
    lens.loupe.draw();
    lens.maps.draw();
    lens.slice.mark();
    lens.curves.cursor(lens.frame);
  }

  // Texts and marks that follow the frame and the view.
  function label() {
    root.classList.toggle('playing', view.playing);
    part('play').setAttribute('aria-label', view.playing ? 'Pause' : 'Play');
    if (!lens.scene) return;
    root.dataset.frame = lens.frame;
    part('scrub').value = lens.frame;
    part('scrub').setAttribute('aria-valuetext', `frame ${lens.frame + 1} of ${lens.scene.frames}`);
    part('count').textContent = `frame ${lens.frame + 1} / ${lens.scene.frames} · ${lens.player.startOf(lens.frame).toFixed(2)} s`;
    lens.viewport.label();
    lens.maps.read();
    lens.permalink.write();
  }

  function rearrange() {                            // after a change of layout, methods, maps or panels
    if (!lens.scene) return;
    if (view.layout !== 'flicker') { part('blink').checked = false; view.flipped = false; }
    lens.controls.update();
    lens.maps.make();
    lens.viewport.makeCells();
    lens.slice.make();
    lens.curves.makeWorst();
    label();                                        // names at once, images when they are there
    lens.player.show(lens.wanted);
  }

  function setValue(given) {
    const value = given && JSON.parse(JSON.stringify(given));   // a plain copy of the host's reactive object, fast to read
    const sameDimensions = lens.scene && value?.frames && ['width', 'height', 'frames'].every(name => lens.scene[name] === value[name]);
    lens.player.cancel();
    lens.images.abortAllBut(new Set());
    lens.images.failed.clear();
    part('body').hidden = !value?.frames;
    part('empty').hidden = !!value?.frames;
    part('empty').textContent = value?.message || 'Nothing to show yet.';
    if (!value?.frames || !sameDimensions) lens.player.stop();
    lens.scene = value?.frames ? value : null;
    if (!lens.scene) return;
    const folders = props.fetch ? [] : [...value.methods, ...value.overlays.flatMap(o => Object.values(o.maps))];
    for (const folder of folders) folder.frames = new URL(folder.frames, base()).href;
    if (!sameDimensions) {
      lens.wanted = lens.frame = 0;
      Object.assign(view, { pinned: false, point: [value.width >> 1, value.height >> 1], pan: [0, 0], row: value.height >> 1 });
    }
    const box = lens.permalink.restore(), keys = value.methods.map(m => m.key);
    for (const [side, preferred, fallback] of [['left', LEFT, keys[0]], ['right', RIGHT, keys.at(-1)]]) {
      if (!keys.includes(view[side]) || view[side] === automatic[side]) view[side] = automatic[side] = preferred.find(key => keys.includes(key)) || fallback;
    }
    if (!lens.overlay()) view.overlay = '';
    if (!lens.score()) view.score = value.curves[0]?.key || '';
    lens.wanted = Math.min(lens.wanted, value.frames - 1);
    lens.controls.fill();
    lens.loupe.make();
    lens.curves.make();
    lens.maps.makeSimilarity();
    rearrange();
    const { visible } = lens.viewport;
    if (box) lens.viewport.panTo(box[0] + (box[2] - visible[0]) / 2, box[1] + (box[3] - visible[1]) / 2);   // the same center, whatever fits here
  }

  new ResizeObserver(() => lens.viewport.fit()).observe(part('main'));
  root.lens = lens;
  watch('value', () => setValue(props.value));
  watch('steps', () => lens.controls.updateSteps());
  setValue(props.value);
}
