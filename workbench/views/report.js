// The report page: the viewer, and the progress of a run, with all data inside the page. Python writes the elements `report`,
// { at, scenes: { step: value }, progress }, and `images`, { address: base64 }.

import { mountLens } from './lens/lens.js';
import { mountProgress } from './lens/progress.js';

const parse = name => JSON.parse(document.getElementById(name).textContent);
const report = parse('report'), images = new Map(Object.entries(parse('images')));

// Stands in for fetch.
async function fetchInside(address) {
  const image = images.get(address);
  if (image === undefined) return new Response('', { status: 404 });
  return new Response(new Blob([Uint8Array.from(atob(image), c => c.charCodeAt(0))], { type: 'image/webp' }));
}

function numbered(value) {                          // the folder of numbered images -> an address per frame
  for (const one of [...value.methods, ...value.overlays.flatMap(overlay => Object.values(overlay.maps))]) {
    const folder = one.frames;
    one.frames = Array.from({ length: value.frames }, (_, i) => `${folder}/${String(i).padStart(5, '0')}.webp`);
  }
  return value;
}

// Mounts a component; returns a function that changes its properties.
function mount(id, component, props, trigger) {
  const watchers = [];
  component(document.getElementById(id), { trigger, props, watch: (name, callback) => watchers.push({ name, callback }) });
  return changes => {
    Object.assign(props, changes);
    watchers.filter(({ name }) => name in changes).forEach(({ callback }) => callback());
  };
}

const scenes = new Map(Object.entries(report.scenes).map(([step, value]) => [Number(step), numbered(value)]));
const steps = [...scenes.keys()].sort((a, b) => a - b), training = !!report.progress;
const shown = at => ({ value: scenes.get(at), steps: training ? { all: steps, at } : null });

function goTo(step) {
  if (!scenes.has(step)) return;
  setLens(shown(step));
  setProgress?.({ value: { ...report.progress, step } });
  for (const part of document.querySelectorAll('[data-step]')) part.hidden = Number(part.dataset.step) !== step;
}

document.getElementById('progress').hidden = !training;
const setLens = mount('lens', mountLens, { ...shown(report.at), goto: null, fetch: fetchInside }, (event, data) => { if (event === 'step') goTo(data.step); });
const setProgress = training ? mount('progress', mountProgress, { value: { ...report.progress } }, (event, data) => goTo(data.step)) : null;
