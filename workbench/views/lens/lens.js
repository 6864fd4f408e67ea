// The viewer of a scene: several methods on one clip, frame by frame. Hosts (Gradio, anywidget, a report page) call
// mountLens(element, { trigger, props, watch }):
//   props.value             the JSON value of payload.py, or { message }
//   props.steps             { all: [training step], at } where there are snapshots to choose from
//   props.fetch             function in place of fetch, where there is no server; URLs of images are then left as they are
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
import { imageUrl, createImageCache } from './image_cache.js';
import { createLoupe } from './loupe.js';
import { createPermalink } from './permalink.js';
import { createPlayer } from './player.js';
import { createSlice } from './slice.js';
import { createViewport } from './viewport.js';

const DEFAULTS = {
  layout: 'wipe', left: '', right: '', hidden: ['low'], wipe: 0.5, gain: 4, flipped: false, zoom: 'fit', overlay: '', attention: '',
  opacity: 0.65, channel: 0, showMaps: true, loupe: true, point: [0, 0], pinned: false, speed: 1, playing: false, score: '', hiddenInCharts: [],
  pan: [0, 0], enlarge: 'auto', panels: [], row: 0, worst: '',
};
const LEFT = ['plain', 'bicubic'], RIGHT = ['distilled', 'student', 'teacher'];   // shown first, if a scene has them; before these: its sides, and on the right the user's own
const KNOWN = ['low', 'high', ...LEFT, ...RIGHT];

export function mountLens(element, { trigger, props, watch }) {
  const root = element.querySelector('.lens');
  const parts = Object.fromEntries([...root.querySelectorAll('[data-part]')].map(found => [found.dataset.part, found]));
  const part = name => parts[name];
  const view = { ...DEFAULTS, hidden: new Set(DEFAULTS.hidden), hiddenInCharts: new Set(), panels: new Set() };
  const automatic = {};                             // sides that the viewer chose; it chooses again with every scene

  const lens = {
    root, part, props, trigger, view,
    scene: null,
    frame: 0,                                       // visible
    wanted: 0,                                      // requested last
    method: key => lens.scene.methods.find(m => m.key === key),
    overlay: () => lens.scene.overlays.find(o => o.kind === view.overlay) || null,
    score: () => lens.scene.curves.find(curve => curve.key === view.score),
    setStatus: text => { if (part('status').textContent !== text) part('status').textContent = text; },
    dot: key => node('i', { className: 'dot', style: `background: ${lens.method(key).color}` }),
    visibleMethods, needed, draw, label, rearrange,
  };
  lens.images = createImageCache(lens);
  lens.player = createPlayer(lens);
  lens.viewport = createViewport(lens);
  lens.featureMaps = createFeatureMaps(lens);
  lens.loupe = createLoupe(lens);
  lens.slice = createSlice(lens);
  lens.curves = createCurves(lens);
  lens.figure = createFigure(lens);
  lens.permalink = createPermalink(lens, DEFAULTS);
  lens.controls = createControls(lens);

  // Keys of the methods in the tiles.
  function visibleMethods() {
    if (view.layout !== 'grid') return view.left === view.right ? [view.left] : [view.left, view.right];
    return lens.scene.methods.map(m => m.key).filter(key => !view.hidden.has(key));
  }

  // Every image that a frame needs: { key, url, gray }.
  function needed(index) {
    const all = lens.scene.methods.map(m => m.key), keys = view.loupe ? all : visibleMethods(), kinds = lens.featureMaps.visibleKinds();
    const jobs = keys.map(key => ({ key, url: imageUrl(lens.method(key).image_folder, index), gray: false }));
    for (const kind of new Set([lens.overlay(), ...kinds].filter(Boolean))) {
      for (const key of kinds.includes(kind) ? all : keys) {
        if (kind.by_method[key]) jobs.push({ key, url: imageUrl(kind.by_method[key].image_folder, index), gray: true });
      }
    }
    return jobs;
  }

  function draw() {
    lens.loupe.start();
    lens.viewport.draw();
    label();
    lens.loupe.draw();
    lens.featureMaps.draw();
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
    part('scrub').setAttribute('aria-valuetext', `frame ${lens.frame + 1} of ${lens.scene.frame_count}`);
    part('count').textContent = `frame ${lens.frame + 1} / ${lens.scene.frame_count} · ${lens.player.startOf(lens.frame).toFixed(2)} s`;
    lens.viewport.label();
    lens.featureMaps.updateReadouts();
    lens.permalink.write();
  }

  function rearrange() {                            // after a change of layout, methods, maps or panels
    if (!lens.scene) return;
    if (view.layout !== 'flicker') { part('blink').checked = false; view.flipped = false; }
    lens.controls.update();
    lens.featureMaps.make();
    lens.viewport.makeTiles();
    lens.slice.make();
    lens.curves.makeWorst();
    label();                                        // names at once, images when they are there
    lens.player.displayFrame(lens.wanted);
  }

  function setValue(given) {
    const value = given && JSON.parse(JSON.stringify(given));   // a plain copy of the host's reactive object, fast to read
    const scene = value?.frame_count ? value : null;
    const sameDimensions = lens.scene && scene && ['width', 'height', 'frame_count'].every(name => lens.scene[name] === scene[name]);
    reset(sameDimensions);
    part('body').hidden = !scene;
    part('empty').hidden = !!scene;
    part('empty').textContent = value?.message || 'Nothing to show yet.';
    lens.scene = scene;
    if (!scene) return;
    part('losses').textContent = scene.losses || '';
    part('losses').hidden = !scene.losses;
    if (!props.fetch) resolveUrls(scene);
    if (!sameDimensions) {
      lens.wanted = lens.frame = 0;
      Object.assign(view, { pinned: false, point: [scene.width >> 1, scene.height >> 1], pan: [0, 0], row: scene.height >> 1 });
      lens.loupe.startAgain();
    }
    const box = lens.permalink.restore();
    chooseSides(scene.methods.map(m => m.key));
    if (!lens.overlay()) view.overlay = '';
    if (!lens.score()) view.score = scene.curves[0]?.key || '';
    lens.wanted = Math.min(lens.wanted, scene.frame_count - 1);
    lens.controls.fill();
    lens.loupe.make();
    lens.curves.make();
    lens.featureMaps.makeSimilarity();
    rearrange();
    const { visible } = lens.viewport;
    if (box) lens.viewport.panTo(box[0] + (box[2] - visible[0]) / 2, box[1] + (box[3] - visible[1]) / 2);   // the same center, whatever fits here
  }

  // Ends what belongs to the previous scene; playback goes on where the next one has the same dimensions.
  function reset(keepsPlaying) {
    lens.player.invalidatePendingRequest();
    lens.images.abortAllBut(new Set());
    lens.images.failed.clear();
    if (!keepsPlaying) lens.player.stop();
  }

  function resolveUrls({ methods, overlays }) {
    for (const images of [...methods, ...overlays.flatMap(o => Object.values(o.by_method))]) images.image_folder = new URL(images.image_folder, base()).href;
  }

  function chooseSides(keys) {
    const own = keys.filter(key => !KNOWN.includes(key));
    const [first = [], second = []] = (lens.scene.sides || []).map(key => [key]);
    for (const [side, preferred, fallback] of [['left', [...first, ...LEFT], keys[0]], ['right', [...second, ...own, ...RIGHT], keys.at(-1)]]) {
      if (!keys.includes(view[side]) || view[side] === automatic[side]) view[side] = automatic[side] = preferred.find(key => keys.includes(key)) || fallback;
    }
  }

  new ResizeObserver(() => lens.viewport.fit()).observe(part('main'));
  root.lens = lens;
  watch('value', () => setValue(props.value));
  watch('steps', () => lens.controls.updateSteps());
  setValue(props.value);
}
