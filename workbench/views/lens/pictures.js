// ---------------------------------------------------------------- pictures: fetched once, kept up to a number of bytes

const cache = new Map();                            // address -> { bitmap } or { grey, width, height }; oldest first
const pending = new Map();                          // address -> { promise, control }
const failed = new Map();                           // address -> why; asked for again only when the value changes
let bytes = 0, budget = (props.budget_mib || 512) * 2 ** 20;

// A list of addresses as it is; the address of a folder, as seen from where the app lives (behind a proxy: not the top).
function settled(frames) {
  if (Array.isArray(frames)) return frames;
  const home = globalThis.gradio_config?.root || document.baseURI;
  return new URL(frames, home.replace(/\/*$/, '/')).href;
}

function addressOf(frames, index) {
  return Array.isArray(frames) ? frames[index] : `${frames}/${String(index).padStart(5, '0')}.webp`;
}

// Every picture that a frame needs, in the present layout.
function needed(index) {
  const all = scene.methods.map(m => m.key), keys = view.loupe ? all : onShow();
  const jobs = keys.map(key => ({ key, address: addressOf(method(key).frames, index), grey: false }));
  const shown = shownMaps();
  for (const map of new Set([overlay(), ...shown])) {
    for (const key of shown.includes(map) ? all : keys) if (map?.maps[key]) jobs.push({ key, address: addressOf(map.maps[key].frames, index), grey: true });
  }
  return jobs;
}

function onShow() {
  if (view.layout !== 'grid') return view.left === view.right ? [view.left] : [view.left, view.right];
  return scene.methods.map(m => m.key).filter(key => !view.absent.has(key));
}

// The entry if it is there, else a promise that ends with the entry or, where there is no picture, with null.
function load({ address, grey }) {
  const known = cache.get(address);
  if (known) {
    cache.delete(address);
    cache.set(address, known);
    return known;
  }
  if (failed.has(address)) return null;
  if (pending.has(address)) return pending.get(address).promise;
  const control = new AbortController(), job = { control };
  job.promise = fetched(address, control.signal)
    .then(bitmap => keep(address, grey ? greyOf(bitmap) : { bitmap, bytes: bitmap.width * bitmap.height * 4 }))
    .catch(error => {
      if (error.name !== 'AbortError') failed.set(address, wordsFor(error));
      return null;
    })
    .finally(() => { if (pending.get(address) === job) pending.delete(address); });
  pending.set(address, job);
  return job.promise;
}

async function fetched(address, signal) {
  const answer = await (props.fetch || fetch)(address, { signal });   // a page to send has its pictures inside it
  if (answer.status === 410) throw new Error('rewritten meanwhile; choose it again');
  if (!answer.ok) throw new Error(answer.status === 404 ? 'not there (404)' : `the server answers ${answer.status}`);
  // No colour management, no premultiplication: the pixels that were scored, and no others.
  return createImageBitmap(await answer.blob(), { colorSpaceConversion: 'none', premultiplyAlpha: 'none' });
}

const wordsFor = error => (error.name === 'InvalidStateError' ? 'not a readable picture' : error.message);

function keep(address, entry) {
  const before = cache.get(address);                // fetched twice at a time: the later one stays
  if (before) {
    bytes -= before.bytes;
    before.bitmap?.close();
  }
  cache.set(address, entry);
  bytes += entry.bytes;
  const held = new Set([...needed(frame), ...needed(wanted)].map(job => job.address));
  for (const [old, dropped] of cache) {             // the longest unused go first, never what is on show
    if (bytes <= budget) break;
    if (held.has(old) || old === address) continue;
    cache.delete(old);
    bytes -= dropped.bytes;
    dropped.bitmap?.close();
  }
  return entry;
}

// Pictures of many frames, each for a moment (a slice through the clip, thumbnails). A few at a time, so that the frame
// that somebody waits for comes first; what finds no room in the cache is let go after `use`.
const errands = [];
let carriers = 0;

function glimpse(address, use, unwanted) {
  const known = cache.get(address);
  if (known) { use(known.bitmap); return Promise.resolve(true); }
  return new Promise(done => {
    errands.push({ address, use, unwanted, done });
    if (carriers < 4) carry();
  });
}

async function carry() {
  carriers++;
  for (let errand = errands.shift(); errand; errand = errands.shift()) {
    const { address, use, unwanted, done } = errand;
    let bitmap = unwanted() || failed.has(address) ? null : cache.get(address)?.bitmap || null, spare = null;
    if (!bitmap && !unwanted() && !failed.has(address)) {
      try {
        bitmap = spare = await fetched(address);
      } catch (error) {
        failed.set(address, wordsFor(error));
      }
    }
    const size = bitmap ? bitmap.width * bitmap.height * 4 : 0;
    if (spare && !unwanted() && !cache.has(address) && bytes + size <= budget) { keep(address, { bitmap, bytes: size }); spare = null; }
    if (bitmap && !unwanted()) use(bitmap);
    spare?.close();
    done(!!bitmap);
  }
  carriers--;
}

// While somebody scrubs, what is no longer wanted must not stand in the queue before what is.
function abortAllBut(addresses) {
  for (const [address, job] of pending) {
    if (addresses.has(address)) continue;
    pending.delete(address);
    job.control.abort();
  }
}

const scratch = document.createElement('canvas');
const scratchContext = scratch.getContext('2d', { willReadFrequently: true });

function greyOf(bitmap) {
  scratch.width = bitmap.width;
  scratch.height = bitmap.height;
  scratchContext.drawImage(bitmap, 0, 0);
  const { data, width, height } = scratchContext.getImageData(0, 0, bitmap.width, bitmap.height);
  const grey = new Uint8Array(width * height);
  for (let i = 0; i < grey.length; i++) grey[i] = data[4 * i];
  bitmap.close();
  return { grey, width, height, bytes: grey.length };
}

const pictureOf = (key, index = frame) => cache.get(addressOf(method(key).frames, index))?.bitmap || null;
const mapOf = (map, key, index = frame) => map.maps[key] ? cache.get(addressOf(map.maps[key].frames, index)) || null : null;
