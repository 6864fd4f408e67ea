// Goes from frame to frame, and plays. A frame is drawn when all its images are there, so that all methods stay in step.

import { clamp } from './dom.js';

const PREFETCH = 6;                                 // frames fetched ahead

export function createPlayer(lens) {
  const { view, images } = lens;
  let request = 0, reporting = 0;                   // request: counts requested frames; only the newest may be drawn

  // Draws a frame when every image of it is there, or known to be missing, unless another frame was requested meanwhile.
  function displayFrame(index) {
    if (!lens.scene) return Promise.resolve(false);
    const mine = ++request, { frame_count: frameCount } = lens.scene;
    lens.wanted = clamp(Math.round(index), 0, frameCount - 1);
    const jobs = lens.needed(lens.wanted);
    if (jobs.every(job => images.cached(job.url) || images.failed.has(job.url))) {   // drawn in this tick
      arrive();
      return Promise.resolve(true);
    }
    const soon = new Set(jobs.map(job => job.url));
    for (let i = lens.wanted + 1; i <= Math.min(lens.wanted + PREFETCH, frameCount - 1); i++) lens.needed(i).forEach(job => soon.add(job.url));
    images.abortAllBut(soon);
    return Promise.all(jobs.map(images.fetchEntry)).then(() => {
      if (mine !== request) return false;
      arrive();
      return true;
    });
  }

  function arrive() {
    lens.frame = lens.wanted;
    lens.draw();
    const { failed } = images, missing = lens.needed(lens.frame).filter(job => failed.has(job.url));
    lens.setStatus(missing.map(job => `${lens.method(job.key).label}, frame ${lens.frame + 1}${job.gray ? ', map' : ''}: ${failed.get(job.url)}`).join('; '));
    for (let d = 1; d <= PREFETCH; d++) lens.needed((lens.frame + d) % lens.scene.frame_count).forEach(images.fetchEntry);
    report();
  }

  function report() {                               // to Python: the frame where the viewer stays, not every frame on the way
    clearTimeout(reporting);
    reporting = setTimeout(() => { if (lens.scene && !view.playing) lens.trigger('select', { frame: lens.frame }); }, 150);
  }

  // Start of a frame in seconds; frames follow scene.fps where the scene has no times of its own.
  const startOf = index => (lens.scene.times ? lens.scene.times[index] : index / lens.scene.fps);

  // The frame that is shown at a time, searched from a frame that is not later; scene.frame_count after the end.
  function frameAt(seconds, index) {
    const { times, frame_count: frameCount, fps } = lens.scene;
    if (!times) return Math.min(frameCount, Math.floor(seconds * fps + 1e-6));
    while (index < frameCount && times[index + 1] <= seconds) index++;
    return index;
  }

  function togglePlayback() {
    if (!lens.scene) return;
    if (view.playing) { stop(); return; }
    view.playing = true;
    lens.label();
    let since = performance.now(), from = lens.frame >= lens.scene.frame_count - 1 ? 0 : lens.frame, { speed } = view, busy = false;
    const tick = now => {
      if (!view.playing || !lens.scene) return;
      if (speed !== view.speed) [since, from, speed] = [now, lens.frame, view.speed];
      const due = frameAt(startOf(from) + (now - since) / 1000 * speed, from), ended = due >= lens.scene.frame_count;
      if (ended) [since, from] = [now, 0];
      if (!busy && due !== lens.frame) {
        busy = true;
        displayFrame(ended ? 0 : due).finally(() => { busy = false; });
      }
      requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
  }

  function stop() {
    view.playing = false;
    invalidatePendingRequest();
    lens.wanted = lens.frame;
    lens.label();
    report();
  }

  // Images that are still on their way must not change the frame any more.
  function invalidatePendingRequest() { request++; }

  function seek(index) {
    if (view.playing) stop();
    return displayFrame(index);
  }

  return { displayFrame, seek, togglePlayback, stop, invalidatePendingRequest, startOf };
}
