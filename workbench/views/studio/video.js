// Upload, selection of a region and frames, queue, results.
// Python sends parts of { limits, methods, can_save, upload, jobs, results, other, problem }.

let known = {}, region = null, frames = [0, 1], groundTruth = true, methods = null, request = null, shown = '';
const parts = {};
const megabytes = n => Math.round(n / 1e6);

function build() {
  home.replaceChildren();
  const file = node('input', { type: 'file', id: 'video-file', accept: '.mp4,.mov,.mkv,.webm,.avi,video/*', onchange: () => send(file.files[0]) });
  parts.drop = node('label', { className: 'drop', htmlFor: 'video-file' },
    node('b', { textContent: 'Choose a video, or drop it here' }),
    node('small', { textContent: `MP4, MOV, MKV, WebM or AVI, up to ${megabytes(known.limits.bytes)} MB and ${known.limits.seconds} seconds` }), file);
  parts.drop.ondragover = event => { event.preventDefault(); parts.drop.classList.add('over'); };
  parts.drop.ondragleave = () => parts.drop.classList.remove('over');
  parts.drop.ondrop = event => { event.preventDefault(); parts.drop.classList.remove('over'); send(event.dataTransfer.files[0]); };
  parts.progress = node('progress', { max: 1, value: 0, hidden: true });
  parts.problem = alertLine('video-problem');
  parts.selection = node('div', { className: 'selection', id: 'video-selection', hidden: true });
  parts.jobs = node('div', { id: 'video-jobs' });
  parts.results = node('div', { id: 'video-results' });
  home.append(parts.drop, parts.progress, parts.problem, parts.selection, parts.jobs, parts.results);
}

const showProblem = text => setLine(parts.problem, text);

function send(file) {
  if (!file || request) return;
  showProblem('');
  const limit = known.limits.bytes;
  if (file.size > limit) { showProblem(`${file.name}: want at most ${megabytes(limit)} MB, got ${megabytes(file.size)} MB`); return; }
  request = new XMLHttpRequest();
  parts.progress.hidden = false;
  request.upload.onprogress = event => { parts.progress.value = event.total ? event.loaded / event.total : 0; };
  request.onloadend = () => {
    let answer = {};
    try { answer = JSON.parse(request.responseText); } catch { answer = { message: 'The upload was interrupted; try again.' }; }
    request = null;
    parts.progress.hidden = true;
    home.querySelector('#video-file').value = '';
    if (answer.upload) { shown = ''; trigger('open', { upload: answer.upload, frame: 0 }); } else showProblem(answer.message || 'The upload was refused.');
  };
  request.open('POST', `${base()}uploads`);
  request.setRequestHeader('Content-Type', 'application/octet-stream');
  request.setRequestHeader('X-Name', encodeURIComponent(file.name));
  request.send(file);
}

// -- selection

const maxPixels = () => known.limits.pixels / (groundTruth ? 1 : known.limits.scale ** 2);
const minSide = () => known.limits.side * (groundTruth ? known.limits.scale : 1);

function setRegion([top, left, height, width]) {
  const { width: W, height: H } = known.upload, multiple = groundTruth ? known.limits.scale : 1;
  width = clamp(width, minSide(), W);
  height = clamp(height, minSide(), H);
  if (width * height > maxPixels()) {
    const share = Math.sqrt(maxPixels() / (width * height));
    width = Math.floor(width * share);
    height = Math.floor(height * share);
  }
  width -= width % multiple;
  height -= height % multiple;
  region = [clamp(Math.round(top), 0, H - height), clamp(Math.round(left), 0, W - width), Math.round(height), Math.round(width)];
}

function centerRegion() {
  const { width, height } = known.upload, pixels = groundTruth ? 1e6 : 160 * 90;
  const share = Math.min(1, Math.sqrt(Math.min(maxPixels(), pixels) / (width * height)));
  setRegion([height * (1 - share) / 2, width * (1 - share) / 2, Math.floor(height * share), Math.floor(width * share)]);
}

function showUpload() {
  const upload = known.upload, selection = parts.selection;
  selection.hidden = !upload;
  if (!upload) return;
  if (shown === upload.key) { parts.image.src = upload.image; return; }
  shown = upload.key;
  groundTruth = upload.width * upload.height * known.limits.scale ** 2 > known.limits.pixels;   // a small video is an input
  frames = [0, Math.min(upload.frames, known.limits.frames, 24)];
  centerRegion();
  parts.image = node('img', { src: upload.image, alt: 'A frame of your video', draggable: false });
  parts.frame = node('div', { className: 'frame' });
  parts.still = node('div', { className: 'still' }, parts.image, parts.frame);
  dragRegion(parts.still);
  const number = (text, k, help) => {
    const made = node('input', { type: 'number', min: 0, step: 1 });
    made.onchange = () => { const next = [...region]; next[k] = Math.round(Number(made.value)) || 0; setRegion(next); showSelection(); };
    parts[`region${k}`] = made;
    return labeled(text, made, help);
  };
  const first = node('input', { type: 'range', min: 0, max: Math.max(0, upload.frames - 1), value: 0, id: 'video-first' });
  const length = node('input', { type: 'range', min: 1, max: Math.min(known.limits.frames, upload.frames), value: frames[1], id: 'video-length' });
  let pending = 0;
  const setFrames = () => {
    const from = Math.min(Number(first.value), upload.frames - 1), count = Math.min(Number(length.value), upload.frames - from);
    frames = [from, from + count];
    showSelection();
  };
  first.oninput = () => { setFrames(); clearTimeout(pending); pending = setTimeout(() => trigger('open', { upload: upload.key, frame: frames[0] }), 250); };
  length.oninput = setFrames;
  const mode = (value, text, help) => {
    const made = node('input', { type: 'radio', name: 'video-mode', checked: groundTruth === value, onchange: () => { groundTruth = value; centerRegion(); showSelection(); } });
    return node('label', { className: 'mode' }, made, node('span', {}, node('b', { textContent: text }), node('small', { textContent: help })));
  };
  methods = methods || new Set(['bicubic', 'plain', 'distilled', 'teacher'].filter(m => m in known.methods));
  const boxes = node('fieldset', { className: 'ticks' }, node('legend', { textContent: 'Methods' }), ...Object.entries(known.methods).map(([key, text]) => {
    const onchange = event => (event.target.checked ? methods.add(key) : methods.delete(key));
    return node('label', {}, node('input', { type: 'checkbox', checked: methods.has(key), dataset: { method: key }, onchange }), node('span', { textContent: text }));
  }));
  parts.summary = node('p', { className: 'soft', id: 'video-sum' });
  selection.replaceChildren(
    node('h3', { textContent: upload.title }),
    node('p', { className: 'soft', textContent: [`${upload.width}x${upload.height}`, `${upload.frames} frames`, `${upload.fps.toFixed(2)} fps`, upload.codec, ...upload.notes].join(' · ') }),
    node('div', { className: 'chooser' }, parts.still, node('div', { className: 'options' },
      mode(true, 'High resolution (ground truth)', 'It is downsampled four times, upscaled again, and scored against the original.'),
      mode(false, 'Low-resolution input', 'It is upscaled four times as it is, without scores.'),
      node('div', { className: 'region' }, number('left', 1, 'First column of the region; or drag on the image'), number('top', 0, 'First row of the region'), number('width', 3), number('height', 2)),
      labeled('first frame', first, 'Start of the part'), labeled('frames', length, 'Number of frames that are upscaled'),
      boxes, parts.summary,
      button('Upscale', () => { showProblem(''); trigger('submit', { upload: upload.key, frames, region, ground_truth: groundTruth, methods: [...methods] }); }, { id: 'video-go', className: 'main' }))));
  showSelection();
}

function showSelection() {
  const { width: W, height: H, fps } = known.upload, [top, left, height, width] = region, scale = known.limits.scale;
  parts.frame.style.cssText = `left:${100 * left / W}%;top:${100 * top / H}%;width:${100 * width / W}%;height:${100 * height / H}%`;
  region.forEach((v, k) => { parts[`region${k}`].value = v; });
  const seconds = k => (k / fps).toFixed(2);
  const sizes = groundTruth ? `${width}x${height} → ${width / scale}x${height / scale} → ${width}x${height}` : `${width}x${height} → ${width * scale}x${height * scale}`;
  parts.summary.textContent = `Frames ${frames[0] + 1} to ${frames[1]} (${seconds(frames[0])} to ${seconds(frames[1])} s), ${sizes}.`;
}

function dragRegion(still) {
  const at = event => pointerIn(still, event).map((share, i) => clamp(share, 0, 1) * [known.upload.width, known.upload.height][i]);
  const drag = (event, [fromX, fromY]) => {
    const [x, y] = at(event);
    setRegion([Math.min(y, fromY), Math.min(x, fromX), Math.floor(Math.abs(y - fromY)), Math.floor(Math.abs(x - fromX))]);
    showSelection();
  };
  draggable(still, { begin: at, drag });
}

// -- queue and results

function showJobs() {
  const jobs = known.jobs || [];
  parts.jobs.replaceChildren();
  if (!jobs.length) return;
  parts.jobs.append(node('h3', {}, hint('Queue', 'One job at a time runs on this machine; the others wait')));
  if (known.other) parts.jobs.append(node('p', { className: 'soft', textContent: `Running now: a job of another page (${known.other}).` }));
  parts.jobs.append(table(['video', 'state', ''], jobs.map(job => node('tr', {}, ...cells([
    job.title, node('span', { className: `state ${job.state}`, textContent: [job.state, job.message].filter(Boolean).join(': ') }),
    job.finished ? '' : button('Cancel', () => trigger('cancel', { job: job.key })),
  ])))));
}

function showResults() {
  const results = known.results || [];
  parts.results.replaceChildren(node('h3', { textContent: 'Results' }));
  if (!results.length) {
    parts.results.append(emptyNote('No result yet: choose a video above, select a part of it, then Upscale.'));
    return;
  }
  parts.results.append(table(['video', 'size', 'view', 'download', ''], results.map(one => {
    const link = (file, text, help) => node('a', { href: `${base()}results/${one.name}/${file}`, textContent: text, title: help, download: '' });
    const downloads = node('span', { className: 'links' }, ...one.methods.map(m => link(`${m.key}.mp4`, m.label, 'MP4: lossy, for viewing and sharing, not for measuring')),
      link('frames.zip', 'frames (zip)', 'All frames of all methods, lossless WebP'), ...(one.scored ? [link('scores.json', 'scores (json)', 'Every score of every frame')] : []));
    const remove = button('Delete', () => { if (remove.dataset.sure) trigger('delete', { scene: one.name }); else { remove.dataset.sure = '1'; remove.textContent = 'Delete for good?'; } }, { className: 'danger' });
    const save = one.saved ? node('span', { className: 'soft', textContent: 'Saved', title: 'It is a scene on the page Compare, and stays when this browser session ends' })
      : known.can_save ? button('Save as scene', () => trigger('save', { scene: one.name }), { title: 'Keeps it as a scene on the page Compare, visible to everybody' }) : '';
    return node('tr', { dataset: { scene: one.name } }, ...cells([one.title, `${one.frames} frame${one.frames === 1 ? '' : 's'} of ${one.size}, ${one.scored ? 'scored' : 'no scores'}`,
      node('a', { href: `${base()}?scene=${encodeURIComponent(one.name)}`, textContent: 'Compare' }), downloads, node('span', { className: 'links' }, save, remove)]));
  }), 'cards'));
}

follow(next => {
  known = { ...known, ...next };
  if (next.limits) build();
  if (!known.limits) return;
  if ('problem' in next) showProblem(next.problem);
  if (next.upload) showUpload();
  if (next.jobs) showJobs();
  if (next.results) showResults();
});
