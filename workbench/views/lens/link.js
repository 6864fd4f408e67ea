// ------------------------------- the address of the page says what is looked at, so that it can be sent to somebody else

// Frames, columns and rows are written as the page shows them: frames from 1, pixels from 0.
function described() {
  const words = { ...scene.link }, put = (name, value, plain) => { if (String(value) !== String(plain)) words[name] = String(value); };
  words.frame = String(frame + 1);
  words.layout = view.layout;
  if (view.layout !== 'grid') Object.assign(words, { left: view.left, right: view.right });
  put('without', [...view.absent].join(','), [...START.absent].filter(key => scene.methods.some(m => m.key === key)).join(','));
  put('map', view.overlay, '');
  if (view.overlay) { put('channel', view.channel, 0); put('opacity', view.opacity, START.opacity); }
  if (view.layout === 'wipe') put('wipe', Number(view.wipe.toFixed(4)), START.wipe);
  if (view.layout === 'flicker') put('flipped', Number(view.flipped), 0);
  if (view.layout === 'difference') put('gain', view.gain, START.gain);
  if (view.zoom !== 'fit') Object.assign(words, { zoom: String(view.zoom), box: [...view.pan, ...seen.map(Math.round)].join(',') });
  put('attention', view.attention, '');
  put('maps', view.maps ? 'on' : 'off', 'on');
  put('loupe', view.loupe ? view.enlarge : 'off', 'auto');
  if (view.pinned) words.at = view.point.join(',');
  put('panels', [...view.panels].join(','), '');
  if (view.panels.has('slice')) words.row = String(view.row);
  if (view.panels.has('worst') && view.worst) words.worst = view.worst;
  put('score', view.score, scene.curves[0]?.key || '');
  return words;
}

const LINKED = ['scene', 'run', 'step', 'frame', 'layout', 'left', 'right', 'without', 'map', 'attention', 'maps', 'channel', 'opacity', 'wipe',
  'flipped', 'gain', 'zoom', 'box', 'loupe', 'at', 'panels', 'row', 'worst', 'score'];
let remembering = 0;

function remember() {                               // not at every frame of a clip that plays: browsers refuse too many
  clearTimeout(remembering);
  if (!scene?.link || view.playing) return;
  remembering = setTimeout(() => {
    if (!scene?.link || !root.isConnected) return;
    const address = new URL(location.href), words = described();
    for (const name of LINKED) address.searchParams.delete(name);
    for (const [name, value] of Object.entries(words)) address.searchParams.set(name, value);
    address.search = address.search.replaceAll('%2C', ',');
    if (address.href !== location.href) history.replaceState(history.state, '', address);
  }, 200);
}

let asked = new URLSearchParams(location.search);   // once, for the scene or run that it names

// Takes over what the address asks for; anything that this scene does not have is passed over.
function recall() {
  const words = asked, mine = scene.link && ['scene', 'run'].every(name => !words?.has(name) || words.get(name) === scene.link[name]);
  asked = null;
  if (!words || !mine) return;
  const number = (name, low, high) => {
    const value = words.has(name) && words.get(name) !== '' ? Number(words.get(name)) : NaN;
    return Number.isFinite(value) ? clamp(value, low, high) : null;
  };
  const numbers = (name, count) => {
    const values = (words.get(name) || '').split(',').map(Number);
    return values.length === count && words.get(name) && values.every(Number.isFinite) ? values : null;
  };
  const one = (name, choices) => (choices.includes(words.get(name)) ? words.get(name) : null);
  const several = (name, choices) => (words.has(name) ? new Set(words.get(name).split(',').filter(word => choices.includes(word))) : null);
  const keys = scene.methods.map(m => m.key), size = [scene.width, scene.height];
  const wishes = {
    layout: one('layout', LAYOUTS), left: one('left', keys), right: one('right', keys), absent: several('without', keys),
    overlay: one('map', scene.overlays.map(o => o.kind)), attention: one('attention', flatMaps().map(o => o.kind)), channel: number('channel', 0, 4096), opacity: number('opacity', 0, 1),
    wipe: number('wipe', 0, 1), gain: [1, 2, 4, 8, 16].find(gain => gain === number('gain', 1, 16)) ?? null,
    zoom: ZOOMS.find(zoom => zoom === number('zoom', 1, 8)) ?? null, panels: several('panels', PANELS), row: number('row', 0, scene.height - 1),
    worst: one('worst', keys), score: one('score', scene.curves.map(c => c.key)), enlarge: ENLARGE.find(power_ => power_ === number('loupe', 2, 16)) ?? null,
  };
  for (const [name, value] of Object.entries(wishes)) if (value !== null) view[name] = value;
  view.flipped = words.get('flipped') === '1';
  view.loupe = words.get('loupe') !== 'off';
  view.maps = words.get('maps') !== 'off';
  const at = numbers('at', 2), box = numbers('box', 4);
  if (at) Object.assign(view, { pinned: true, point: at.map((value, i) => clamp(Math.floor(value), 0, size[i] - 1)) });
  if (view.row !== null) view.row = Math.round(view.row);
  wanted = Math.round(number('frame', 1, scene.frames) ?? 1) - 1;
  return box && view.zoom !== 'fit' ? box : null;
}
