// Images of the scene: fetched once, decoded, and kept up to a number of bytes.

const LOW_PRIORITY_WORKERS = 4;

// Address of an image in a folder of numbered images.
export const addressOf = (folder, index) => `${folder}/${String(index).padStart(5, '0')}.webp`;

const scratch = document.createElement('canvas').getContext('2d', { willReadFrequently: true });

// Pixels of a bitmap at a size, as ImageData; enlarged without smoothing.
export function pixelsOf(bitmap, width = bitmap.width, height = bitmap.height) {
  Object.assign(scratch.canvas, { width, height });
  scratch.imageSmoothingEnabled = false;
  scratch.drawImage(bitmap, 0, 0, width, height);
  return scratch.getImageData(0, 0, width, height);
}

function grayLevels(bitmap) {
  const { data, width, height } = pixelsOf(bitmap), gray = new Uint8Array(width * height);
  for (let i = 0; i < gray.length; i++) gray[i] = data[4 * i];
  bitmap.close();
  return { gray, width, height, bytes: gray.length };
}

const reason = error => (error.name === 'InvalidStateError' ? 'not a readable image' : error.message);
const sizeOf = bitmap => bitmap.width * bitmap.height * 4;

export function createImageCache(lens) {
  const cache = new Map();                          // address -> { bitmap } or { gray, width, height }; least recently used first
  const pending = new Map();                        // address -> { promise, control }
  const failed = new Map();                         // address -> reason; fetched again only when the value changes
  const queue = [], budget = (lens.props.budget_mib || 512) * 2 ** 20;
  let bytes = 0, workers = 0;

  // The entry if it is cached, else a promise of the entry, or of null where there is no image.
  function load({ address, gray }) {
    const known = cache.get(address);
    if (known) {
      cache.delete(address);
      cache.set(address, known);
      return known;
    }
    if (failed.has(address)) return null;
    if (pending.has(address)) return pending.get(address).promise;
    const control = new AbortController(), job = { control };
    job.promise = fetchBitmap(address, control.signal)
      .then(bitmap => keep(address, gray ? grayLevels(bitmap) : { bitmap, bytes: sizeOf(bitmap) }))
      .catch(error => {
        if (error.name !== 'AbortError') failed.set(address, reason(error));
        return null;
      })
      .finally(() => { if (pending.get(address) === job) pending.delete(address); });
    pending.set(address, job);
    return job.promise;
  }

  async function fetchBitmap(address, signal) {
    const answer = await (lens.props.fetch || fetch)(address, { signal });   // a report page contains its images
    if (answer.status === 410) throw new Error('rewritten meanwhile; choose it again');
    if (!answer.ok) throw new Error(answer.status === 404 ? 'not there (404)' : `the server answers ${answer.status}`);
    // Without color management and premultiplication: exactly the pixels that were scored.
    return createImageBitmap(await answer.blob(), { colorSpaceConversion: 'none', premultiplyAlpha: 'none' });
  }

  function keep(address, entry) {
    const before = cache.get(address);              // fetched twice at a time: the later one is kept
    if (before) {
      bytes -= before.bytes;
      before.bitmap?.close();
    }
    cache.set(address, entry);
    bytes += entry.bytes;
    const shown = new Set([...lens.needed(lens.frame), ...lens.needed(lens.wanted)].map(job => job.address));
    for (const [old, dropped] of cache) {           // never an image that is on show
      if (bytes <= budget) break;
      if (shown.has(old) || old === address) continue;
      cache.delete(old);
      bytes -= dropped.bytes;
      dropped.bitmap?.close();
    }
    return entry;
  }

  // Passes a bitmap to use() for a moment: a slice through the clip, thumbnails. A few at a time, so that the frame that is
  // waited for comes first; a bitmap for which the cache has no room is closed after use. Resolves to whether it was there.
  function fetchLowPriority(address, use, cancelled) {
    const known = cache.get(address);
    if (known) { use(known.bitmap); return Promise.resolve(true); }
    return new Promise(done => {
      queue.push({ address, use, cancelled, done });
      if (workers < LOW_PRIORITY_WORKERS) work();
    });
  }

  async function work() {
    workers++;
    for (let job = queue.shift(); job; job = queue.shift()) job.done(!job.cancelled() && await useOnce(job));
    workers--;
  }

  async function useOnce({ address, use, cancelled }) {
    const known = cache.get(address)?.bitmap;
    if (known || failed.has(address)) { if (known) use(known); return !!known; }
    const bitmap = await fetchBitmap(address).catch(error => { failed.set(address, reason(error)); });
    if (bitmap && !cancelled()) use(bitmap);
    if (bitmap && !cache.has(address) && bytes + sizeOf(bitmap) <= budget) keep(address, { bitmap, bytes: sizeOf(bitmap) });
    else bitmap?.close();
    return !!bitmap;
  }

  // While the slider moves, requests that are no longer needed must not delay those that are.
  function abortAllBut(addresses) {
    for (const [address, job] of pending) {
      if (addresses.has(address)) continue;
      pending.delete(address);
      job.control.abort();
    }
  }

  return {
    load, fetchLowPriority, abortAllBut, cache, pending, failed,
    bitmap: key => cache.get(addressOf(lens.method(key).frames, lens.frame))?.bitmap || null,
    map: (map, key) => (map.maps[key] ? cache.get(addressOf(map.maps[key].frames, lens.frame)) || null : null),
  };
}
