// The viewer as an anywidget. Python sends the value and, in `images`, the files of each folder of numbered images; they
// get addresses that exist in this page only.

import { mountLens } from './lens.js';

export function renderWidget({ model, el }, html) {
  el.innerHTML = html;
  const watchers = [], props = { value: null, goto: null, steps: null };
  let addresses = [];

  function value() {
    const made = structuredClone(model.get('value')), images = model.get('images'), old = addresses;
    addresses = [];
    for (const folder of [...made.methods || [], ...(made.overlays || []).flatMap(overlay => Object.values(overlay.maps))]) {
      folder.frames = (images[folder.frames] || []).map(bytes => {
        addresses.push(URL.createObjectURL(new Blob([bytes], { type: 'image/webp' })));
        return addresses.at(-1);
      });
    }
    setTimeout(() => revoke(old), 5000);
    return made;
  }

  const revoke = all => all.forEach(address => URL.revokeObjectURL(address));
  const changed = name => watchers.filter(watcher => watcher.name === name).forEach(watcher => watcher.callback());
  const steps = () => (model.get('steps').length ? { all: model.get('steps'), at: model.get('step') } : null);
  let due = false;                                  // all traits change in one message: drawn once
  const onValue = () => {
    if (due) return;
    due = true;
    queueMicrotask(() => { due = false; Object.assign(props, { value: value(), steps: steps() }); changed('value'); });
  };
  const onSteps = () => { props.steps = steps(); changed('steps'); };
  const onFrame = () => {
    if (el.firstElementChild.lens.state.frame === model.get('frame')) return;
    props.goto = model.get('frame');
    changed('goto');
  };
  const listeners = { value: onValue, images: onValue, frame: onFrame, steps: onSteps };
  for (const [trait, listener] of Object.entries(listeners)) model.on(`change:${trait}`, listener);

  // From an event of the viewer to the trait that Python observes.
  function trigger(event, data) {
    const [trait, found] = event === 'select' ? ['frame', data.frame] : ['requested_step', data.step];
    if (found === model.get(trait)) return;
    model.set(trait, found);
    model.save_changes();
  }

  Object.assign(props, { value: value(), steps: steps() });
  mountLens(el, { trigger, props, watch: (name, callback) => watchers.push({ name, callback }) });
  if (model.get('frame')) onFrame();
  return () => {
    for (const [trait, listener] of Object.entries(listeners)) model.off(`change:${trait}`, listener);
    revoke(addresses);
  };
}
