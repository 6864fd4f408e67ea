// The report page: the viewer, and the progress of a run, with all data inside the page. Python writes the elements `report`,
// { at, scenes: { step: value }, progress }, and `images`, { url: base64 }.

import { mount } from './lens/dom.js';
import { mountLens } from './lens/lens.js';
import { mountProgress } from './lens/progress.js';

const part = id => document.getElementById(id), parse = id => JSON.parse(part(id).textContent);
const report = parse('report'), images = new Map(Object.entries(parse('images')));

// In place of fetch; a URL is a file of the folder.
async function fetchInside(url) {
  const image = images.get(url);
  if (image === undefined) return new Response('', { status: 404 });
  return new Response(new Blob([Uint8Array.from(atob(image), c => c.charCodeAt(0))], { type: 'image/webp' }));
}

const scenes = new Map(Object.entries(report.scenes).map(([step, value]) => [Number(step), value]));
const steps = [...scenes.keys()].sort((a, b) => a - b), training = !!report.progress;
const shown = at => ({ value: scenes.get(at), steps: training ? { all: steps, at } : null });

function goTo(step) {
  if (!scenes.has(step)) return;
  setLens(shown(step));
  setProgress?.({ value: { ...report.progress, step } });
  for (const table of document.querySelectorAll('[data-step]')) table.hidden = Number(table.dataset.step) !== step;
}

part('progress').hidden = !training;
const setLens = mount(part('lens'), mountLens, { ...shown(report.at), fetch: fetchInside }, (event, data) => { if (event === 'step') goTo(data.step); });
const setProgress = training ? mount(part('progress'), mountProgress, { value: { ...report.progress } }, (event, data) => goTo(data.step)) : null;
