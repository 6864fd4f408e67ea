// The viewer as an anywidget. Python sends the value and, in `images`, the files of each folder of numbered images.

import { mount } from './dom.js';
import { mountLens } from './lens.js';

export function renderWidget({ model, el }, html) {
  el.innerHTML = html;
  let due = false;                                  // all traits change in one message, which is drawn once

  // In place of fetch; a URL is that of a folder, with the number of a frame.
  async function fetchSent(url) {
    const [, folder, index] = /^(.*)\/(\d+)\.webp$/.exec(url), bytes = model.get('images')[folder]?.[Number(index)];
    return bytes ? new Response(new Blob([bytes], { type: 'image/webp' })) : new Response('', { status: 404 });
  }

  const steps = () => (model.get('steps').length ? { all: model.get('steps'), at: model.get('step') } : null);
  const onValue = () => {
    if (due) return;
    due = true;
    queueMicrotask(() => { due = false; change({ steps: steps(), value: model.get('value') }); });
  };
  const onSteps = () => change({ steps: steps() });
  const onFrame = () => {
    const { lens } = el.firstElementChild;
    if (lens.scene && lens.frame !== model.get('frame')) lens.player.seek(model.get('frame'));
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

  const change = mount(el, mountLens, { value: model.get('value'), steps: steps(), fetch: fetchSent }, trigger);
  if (model.get('frame')) onFrame();
  return () => Object.entries(listeners).forEach(([trait, listener]) => model.off(`change:${trait}`, listener));
}
