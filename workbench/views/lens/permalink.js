// The view as query parameters of the page's URL, so that a link opens the same view. Defaults are left out.
//   scene, run, step     the scene, or the run and the step of its snapshot
//   frame                visible frame, counted from 1
//   layout, left, right  layout of LAYOUTS; methods on the left and right
//   without              hidden methods, side by side
//   wipe, flipped, gain  border of the wipe, 0 to 1; 1: right method of the flicker; factor of the difference
//   zoom, box            zoom of ZOOMS; visible part: left, top, width, height in pixels
//   map, opacity         kind of the overlay, and its opacity, 0 to 1
//   maps, attention, channel   on or off; kind of the attention maps; channel of the memory cells
//   loupe, at            off or pixels per pixel; column and row of the pinned loupe
//   panels, row, worst   open panels; row of the temporal profile; method of the worst frames
//   score                curve whose values are on the frames

import { clamp } from './dom.js';
import { ZOOMS } from './viewport.js';

export const LAYOUTS = ['wipe', 'grid', 'flicker', 'difference'];
export const MAGNIFICATIONS = [2, 3, 4, 6, 8, 12, 16];
const PANELS = ['slice', 'differences', 'worst'], GAINS = [1, 2, 4, 8, 16];
const PARAMETERS = ['scene', 'run', 'step', 'frame', 'layout', 'left', 'right', 'without', 'wipe', 'flipped', 'gain', 'zoom', 'box', 'map', 'opacity',
  'maps', 'attention', 'channel', 'loupe', 'at', 'panels', 'row', 'worst', 'score'];

export function createPermalink(lens, defaults) {
  const { view, viewport } = lens;
  let initial = new URLSearchParams(location.search), writing = 0;   // initial: restored once, for the scene or run that it names

  // Frames count from 1, pixels from 0, as on the page.
  function describe() {
    const { scene } = lens, found = { ...scene.link, frame: lens.frame + 1, layout: view.layout };
    const put = (name, value, defaultValue) => { if (String(value) !== String(defaultValue)) found[name] = value; };
    if (view.layout !== 'grid') Object.assign(found, { left: view.left, right: view.right });
    put('without', [...view.hidden].join(','), [...defaults.hidden].filter(key => scene.methods.some(m => m.key === key)).join(','));
    put('map', view.overlay, '');
    put('attention', view.attention, '');
    put('maps', view.showMaps ? 'on' : 'off', 'on');
    put('channel', view.channel, 0);
    if (view.overlay) put('opacity', view.opacity, defaults.opacity);
    if (view.layout === 'wipe') put('wipe', Number(view.wipe.toFixed(4)), defaults.wipe);
    if (view.layout === 'flicker') put('flipped', Number(view.flipped), 0);
    if (view.layout === 'difference') put('gain', view.gain, defaults.gain);
    if (view.zoom !== 'fit') Object.assign(found, { zoom: view.zoom, box: [...view.pan, ...viewport.visible.map(Math.round)].join(',') });
    put('loupe', view.loupe ? view.enlarge : 'off', 'auto');
    if (view.pinned) found.at = view.point.join(',');
    put('panels', [...view.panels].join(','), '');
    if (view.panels.has('slice')) found.row = view.row;
    if (view.panels.has('worst') && view.worst) found.worst = view.worst;
    put('score', view.score, scene.curves[0]?.key || '');
    return found;
  }

  function write() {                                // not at every frame of a clip that plays: browsers limit the rate
    clearTimeout(writing);
    if (!lens.scene?.link || view.playing) return;
    writing = setTimeout(() => {
      if (!lens.scene?.link || !lens.root.isConnected) return;
      const url = new URL(location.href);
      for (const name of PARAMETERS) url.searchParams.delete(name);
      for (const [name, value] of Object.entries(describe())) url.searchParams.set(name, value);
      url.search = url.search.replaceAll('%2C', ',');
      if (url.href !== location.href) history.replaceState(history.state, '', url);
    }, 200);
  }

  // Takes over the view of the URL, once; what this scene does not have is ignored. Returns the visible box of a zoomed view.
  function restore() {
    const query = initial, { scene } = lens;
    initial = null;
    if (!query || !scene.link || ['scene', 'run'].some(name => query.has(name) && query.get(name) !== scene.link[name])) return null;
    const number = (name, low, high) => {
      const value = query.get(name) ? Number(query.get(name)) : NaN;
      return Number.isFinite(value) ? clamp(value, low, high) : null;
    };
    const numbers = (name, count) => {
      const values = (query.get(name) || '').split(',').map(Number);
      return values.length === count && query.get(name) && values.every(Number.isFinite) ? values : null;
    };
    const integer = (name, low, high) => (number(name, low, high) === null ? null : Math.round(number(name, low, high)));
    const one = (name, choices) => choices.find(choice => String(choice) === query.get(name)) ?? null;
    const several = (name, choices) => (query.has(name) ? new Set(query.get(name).split(',').filter(word => choices.includes(word))) : null);
    const keys = scene.methods.map(m => m.key), at = numbers('at', 2), box = numbers('box', 4);
    const found = {
      layout: one('layout', LAYOUTS), left: one('left', keys), right: one('right', keys), hidden: several('without', keys),
      overlay: one('map', scene.overlays.map(o => o.kind)), attention: one('attention', lens.featureMaps.attentionKinds().map(o => o.kind)),
      channel: integer('channel', 0, 4096), opacity: number('opacity', 0, 1), wipe: number('wipe', 0, 1), gain: one('gain', GAINS),
      zoom: one('zoom', ZOOMS), panels: several('panels', PANELS), row: integer('row', 0, scene.height - 1), worst: one('worst', keys),
      score: one('score', scene.curves.map(curve => curve.key)), enlarge: one('loupe', MAGNIFICATIONS),
      point: at && [scene.width, scene.height].map((size, i) => clamp(Math.floor(at[i]), 0, size - 1)),
    };
    for (const [name, value] of Object.entries(found)) if (value !== null) view[name] = value;
    Object.assign(view, { flipped: query.get('flipped') === '1', loupe: query.get('loupe') !== 'off', showMaps: query.get('maps') !== 'off', pinned: !!at });
    lens.wanted = (integer('frame', 1, scene.frame_count) ?? 1) - 1;
    return view.zoom !== 'fit' ? box : null;
  }

  return { write, restore };
}
