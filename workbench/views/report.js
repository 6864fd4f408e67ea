// A page to send: the lens, and the progress of a run, with everything they draw inside the page. The functions `lens` and
// `progress` come before this text; `report` is what report.py wrote: { title, at, scenes: { step: value }, progress }.

const told = name => JSON.parse(document.getElementById(name).textContent);
const report = told('report'), pictures = new Map(Object.entries(told('pictures')));

// What a server would answer.
async function inside(address) {
  const picture = pictures.get(address);
  if (picture === undefined) return new Response('', { status: 404 });
  return new Response(new Blob([Uint8Array.from(atob(picture), c => c.charCodeAt(0))], { type: 'image/webp' }));
}

function numbered(value) {                          // a folder of numbered pictures -> their addresses, one a frame
  for (const one of [...value.methods, ...value.overlays.flatMap(overlay => Object.values(overlay.maps))]) {
    const folder = one.frames;
    one.frames = Array.from({ length: value.frames }, (_, i) => `${folder}/${String(i).padStart(5, '0')}.webp`);
  }
  return value;
}

// Lets a component live in the page; returns what gives it other properties.
function mounted(id, component, props, heard) {
  const watchers = [];
  component(document.getElementById(id), (name, data) => heard(name, data), props, {}, null,
    (names, call) => watchers.push([[names].flat(), call]));
  return changes => {
    Object.assign(props, changes);
    watchers.filter(([names]) => names.some(name => name in changes)).forEach(([, call]) => call());
  };
}

const scenes = new Map(Object.entries(report.scenes).map(([step, value]) => [Number(step), numbered(value)]));
const steps = [...scenes.keys()].sort((a, b) => a - b), training = !!report.progress;
const shown = at => ({ value: scenes.get(at), steps: training ? { all: steps, at } : null });

function goTo(step) {
  if (!scenes.has(step)) return;
  look(shown(step));
  follow?.({ value: { ...report.progress, step } });
  for (const part of document.querySelectorAll('[data-step]')) part.hidden = Number(part.dataset.step) !== step;
}

document.getElementById('progress').hidden = !training;
const look = mounted('lens', lens, { ...shown(report.at), goto: null, fetch: inside }, (name, data) => { if (name === 'step') goTo(data.step); });
const follow = training ? mounted('progress', progress, { value: { ...report.progress } }, (name, data) => goTo(data.step)) : null;
