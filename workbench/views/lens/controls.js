// Buttons, menus and keys.

import { clamp, node, range } from './dom.js';
import { LAYOUTS, MAGNIFICATIONS } from './permalink.js';

const BLINK_MS = 800;                               // 1.25 changes per second: far below what can trigger a seizure

export function createControls(lens) {
  const { part, view, root, player, viewport, loupe, featureMaps, slice, curves, figure } = lens;
  let requestedStep = null, sending = 0;            // requestedStep: a training step whose scene has not arrived yet

  // Controls that the layout does not use are hidden.
  function update() {
    const { overlays, curves: scores } = lens.scene, overlay = lens.overlay(), memory = featureMaps.memory();
    const visibility = {
      pair: view.layout !== 'grid', chips: view.layout === 'grid', flicker: view.layout === 'flicker', 'gain-control': view.layout === 'difference',
      overlays: overlays.length && view.layout !== 'difference', 'opacity-control': overlay, 'channel-control': overlay?.channels > 1,
      'attention-panel': view.showMaps && featureMaps.attention(), 'memory-panel': view.showMaps && memory, 'loupe-panel': view.loupe,
      side: view.loupe || (view.showMaps && featureMaps.visibleKinds().length), clip: lens.visibleMethods().length && figure.clipUrl(),
    };
    for (const [name, on] of Object.entries(visibility)) part(name).hidden = !on;
    for (const button of part('layouts').children) button.setAttribute('aria-checked', button.dataset.layout === view.layout);
    for (const button of part('panels').children) {
      const { panel } = button.dataset, on = view.panels.has(panel);
      button.setAttribute('aria-pressed', on);
      button.hidden = (panel === 'differences' && !featureMaps.pairs().length) || (panel === 'worst' && !scores.length);
      part(panel).hidden = !on || button.hidden;
    }
    for (const chip of part('chips').children) chip.setAttribute('aria-pressed', !view.hidden.has(chip.dataset.key));
    const channels = Math.max(overlay?.channels || 1, memory?.channels || 1);
    view.channel = clamp(view.channel, 0, channels - 1);
    for (const name of ['channel', 'memory-channel']) part(name).replaceChildren(...range(channels).map(i => node('option', { value: i, textContent: i })));
    const { left, right, overlay: kind, opacity, zoom, gain, enlarge, channel } = view;
    const values = { left, right, overlay: kind, opacity, zoom, gain, enlarge, channel, 'memory-channel': channel, 'attention-kind': featureMaps.attention()?.kind ?? '' };
    for (const [name, value] of Object.entries(values)) part(name).value = value;
    part('show-maps').checked = view.showMaps;
    part('loupe').checked = view.loupe;
  }

  function fill() {                                 // with the methods, maps and frames of a scene
    const { methods, overlays, frame_count: frameCount } = lens.scene, option = (value, textContent) => node('option', { value, textContent });
    for (const side of ['left', 'right']) part(side).replaceChildren(...methods.map(m => option(m.key, m.label)));
    part('overlay').replaceChildren(option('', 'none'), ...overlays.map(o => option(o.kind, o.label)));
    part('attention-kind').replaceChildren(...featureMaps.attentionKinds().map(o => option(o.kind, o.label.split(': ').at(-1))));
    part('chips').replaceChildren(...methods.map(m => (
      node('button', { type: 'button', title: m.note, dataset: { key: m.key }, onclick: () => toggle(m.key) }, lens.dot(m.key), m.label))));
    part('scrub').max = frameCount - 1;
    updateSteps();
  }

  // The second slider: training steps. Python answers with the scene of that step; frame, layout and panels stay.
  const steps = () => (lens.props.steps?.all?.length ? lens.props.steps : null);

  function updateSteps() {
    const known = steps();
    if (!known || known.at === requestedStep || !known.all.includes(requestedStep)) requestedStep = null;
    part('training').hidden = !(known?.all.length > 1);
    if (!known) return;
    const at = known.all.indexOf(requestedStep ?? known.at);
    part('step').max = known.all.length - 1;
    part('step').value = at;
    part('step').setAttribute('aria-valuetext', `training step ${known.all[at]}`);
    part('training-step').textContent = `step ${known.all[at]}`;
  }

  function stepTo(index) {
    const { all } = steps(), step = all[clamp(index, 0, all.length - 1)];
    requestedStep = step;
    updateSteps();
    clearTimeout(sending);
    sending = setTimeout(() => { lens.trigger('step', { step, follow: false }); }, 120);
  }

  const stepBy = by => (steps() ? stepTo(steps().all.indexOf(requestedStep ?? steps().at) + by) : false);

  function set(name, value) { view[name] = value; lens.rearrange(); }
  function toggle(key) {
    if (!view.hidden.delete(key)) view.hidden.add(key);
    lens.rearrange();
  }
  function flip() { view.flipped = !view.flipped; lens.draw(); }
  function togglePanel(name) {
    if (!view.panels.delete(name)) {
      view.panels.add(name);
      if (name === 'slice') view.row = view.point[1];
    }
    lens.rearrange();
  }
  function enlargeBy(by) {
    const next = by > 0 ? MAGNIFICATIONS.find(scale => scale > loupe.scale) : MAGNIFICATIONS.findLast(scale => scale < loupe.scale);
    if (next) enlarge(next);
  }
  function enlarge(scale) { view.enlarge = scale; update(); loupe.fit(); }
  function nextOverlay() {
    const kinds = ['', ...lens.scene.overlays.map(o => o.kind)];
    set('overlay', kinds[(kinds.indexOf(view.overlay) + 1) % kinds.length]);
  }
  function help() {
    part('help').hidden = !part('help').hidden;
    part('help-button').setAttribute('aria-expanded', !part('help').hidden);
  }

  const clicks = {
    play: player.togglePlayback, back: () => player.seek(lens.wanted - 1), next: () => player.seek(lens.wanted + 1), flip, 'help-button': help,
    swap: () => { [view.left, view.right] = [view.right, view.left]; lens.rearrange(); },
    copy: figure.copy, save: figure.save, clip: figure.saveClip,
  };
  for (const [name, act] of Object.entries(clicks)) part(name).onclick = act;
  const changes = {
    left: value => set('left', value), right: value => set('right', value), overlay: value => set('overlay', value),
    channel: value => set('channel', Number(value)), 'memory-channel': value => set('channel', Number(value)),
    'attention-kind': value => { set('attention', value); featureMaps.makeSimilarity(); },
    speed: value => { view.speed = Number(value); }, gain: value => { view.gain = Number(value); lens.draw(); },
    zoom: value => viewport.zoomTo(value === 'fit' ? value : Number(value)), enlarge: value => enlarge(value === 'auto' ? value : Number(value)),
    row: value => slice.rowAt(Number(value) || 0), 'worst-of': value => { view.worst = value; curves.makeWorst(); lens.label(); },
  };
  for (const [name, act] of Object.entries(changes)) part(name).onchange = event => act(event.target.value);
  const inputs = {
    scrub: player.seek, step: stepTo, opacity: value => { view.opacity = value; lens.draw(); },
  };
  for (const [name, act] of Object.entries(inputs)) part(name).oninput = event => act(Number(event.target.value));
  for (const [name, setting] of [['show-maps', 'showMaps'], ['loupe', 'loupe']]) part(name).onchange = event => set(setting, event.target.checked);
  for (const button of part('layouts').children) button.onclick = () => set('layout', button.dataset.layout);
  for (const button of part('panels').children) button.onclick = () => togglePanel(button.dataset.panel);
  part('patches').onkeydown = event => {            // arrows move the loupe while it has the focus
    const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!by || !lens.scene) return;
    loupe.pinAt(view.point[0] + by[0], view.point[1] + by[1]);
    event.preventDefault();
    event.stopPropagation();
  };
  const blinking = setInterval(() => {
    if (!root.isConnected) clearInterval(blinking);
    else if (lens.scene && part('blink').checked && view.layout === 'flicker') flip();
  }, BLINK_MS);

  const keys = [
    ['← →', 'previous, next frame', { ArrowLeft: clicks.back, ArrowRight: clicks.next }],
    ['Home End', 'first, last frame', { Home: () => player.seek(0), End: () => player.seek(lens.scene.frame_count - 1) }],
    ['space', 'play, pause', { ' ': player.togglePlayback }],
    ['[ ]', 'earlier, later training step', { '[': () => stepBy(-1), ']': () => stepBy(1) }],
    ['1 2 3 4', 'wipe, side by side, flicker, difference', Object.fromEntries(LAYOUTS.map((name, i) => [i + 1, () => set('layout', name)]))],
    ['shift 1 … 9', 'that method on the right; side by side: show or hide it', {}],
    ['f', 'flip (and go to flicker)', { f: () => { if (view.layout !== 'flicker') set('layout', 'flicker'); else flip(); } }],
    ['+ − 0', 'zoom in, out, fit; shift and arrows move the frame', {
      '+': () => viewport.zoomBy(1), '=': () => viewport.zoomBy(1), '-': () => viewport.zoomBy(-1), 0: () => viewport.zoomTo('fit'),
      ShiftArrowLeft: () => viewport.panBy(-8, 0), ShiftArrowRight: () => viewport.panBy(8, 0),
      ShiftArrowUp: () => viewport.panBy(0, -8), ShiftArrowDown: () => viewport.panBy(0, 8) }],
    ['m', 'attention maps and memory cells', { m: () => set('showMaps', !view.showMaps) }],
    ['l', 'loupe', { l: () => set('loupe', !view.loupe) }],
    ['< >', 'loupe: smaller, larger pixels', { '<': () => enlargeBy(-1), '>': () => enlargeBy(1) }],
    ['o', 'next overlay', { o: nextOverlay }],
    ['x', 'temporal profile: a row over time; ↑ ↓ choose the row', {
      x: () => togglePanel('slice'), ArrowUp: () => view.panels.has('slice') && slice.rowAt(view.row - 1), ArrowDown: () => view.panels.has('slice') && slice.rowAt(view.row + 1) }],
    ['a', 'differences of the attention maps', { a: () => togglePanel('differences') }],
    ['w', 'worst frames first', { w: () => togglePanel('worst') }],
    ['c s', 'copy, save the figure', { c: figure.copy, s: figure.save }],
    ['?', 'this list', { '?': help }],
  ];
  const pointer = [
    ['drag', 'move the wipe, a zoomed frame, the loupe, or the cursor in a curve'],
    ['click', 'pin the loupe and choose the row of the slice; the title of a curve puts its numbers on the frames'],
    ['ctrl and wheel', 'zoom at the pointer'],
  ];
  part('help').replaceChildren(...[...keys, ...pointer].flatMap(([name, text]) => [node('dt', { textContent: name }), node('dd', { textContent: text })]));

  root.addEventListener('keydown', event => {
    if (!lens.scene || event.ctrlKey || event.metaKey || event.altKey || /INPUT|SELECT|TEXTAREA/.test(event.target.tagName)) return;
    if (event.target.tagName === 'BUTTON' && (event.key === ' ' || event.key === 'Enter')) return;
    const digit = event.shiftKey && /^Digit([1-9])$/.exec(event.code), method = digit && lens.scene.methods[Number(digit[1]) - 1];
    const name = (event.shiftKey && event.key.startsWith('Arrow') ? 'Shift' : '') + event.key;
    const act = method ? () => (view.layout === 'grid' ? toggle(method.key) : set('right', method.key)) : keys.map(key => key[2][name]).find(Boolean);
    if (!act || act() === false) return;            // false: nothing to do here, the page may use the key
    event.preventDefault();
  });

  return { update, fill, steps, updateSteps };
}
