// Images of the scene: fetched once, decoded, and kept up to a number of bytes.

const LOW_PRIORITY_WORKERS = 4;

// URL of an image in a folder of numbered images.
export const imageUrl = (folder, index) => `${folder}/${String(index).padStart(5, '0')}.webp`;

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
  const cache = new Map();                          // URL -> { bitmap } or { gray, width, height }; least recently used first
  const pending = new Map();                        // URL -> { promise, control }
  const failed = new Map();                         // URL -> reason; fetched again only when the value changes
  const queue = [], budget = (lens.props.budget_mib || 512) * 2 ** 20;
  let bytes = 0, workers = 0;

  // The entry of an image, now the most recently used one, or null.
  function cached(url) {
    const known = cache.get(url) ?? null;
    if (known) {
      cache.delete(url);
      cache.set(url, known);
    }
    return known;
  }

  // A promise of the entry of an image, or of null where there is no image.
  function fetchEntry({ url, gray }) {
    const known = cached(url);
    if (known || failed.has(url)) return Promise.resolve(known);
    if (pending.has(url)) return pending.get(url).promise;
    const control = new AbortController(), job = { control };
    job.promise = fetchBitmap(url, control.signal)
      .then(bitmap => keep(url, gray ? grayLevels(bitmap) : { bitmap, bytes: sizeOf(bitmap) }))
      .catch(error => {
        if (error.name !== 'AbortError') failed.set(url, reason(error));
        return null;
      })
      .finally(() => { if (pending.get(url) === job) pending.delete(url); });
    pending.set(url, job);
    return job.promise;
  }

  async function fetchBitmap(url, signal) {
    const answer = await (lens.props.fetch || fetch)(url, { signal });   // a report page contains its images
    if (answer.status === 410) throw new Error('rewritten meanwhile; choose it again');
    if (!answer.ok) throw new Error(answer.status === 404 ? 'not there (404)' : `the server answers ${answer.status}`);
    // Without color management and premultiplication: exactly the pixels that were scored.
    return createImageBitmap(await answer.blob(), { colorSpaceConversion: 'none', premultiplyAlpha: 'none' });
  }

  function keep(url, entry) {
    const before = cache.get(url);                  // fetched twice at a time: the later one is kept
    if (before) {
      bytes -= before.bytes;
      before.bitmap?.close();
    }
    cache.set(url, entry);
    bytes += entry.bytes;
    const protectedUrls = new Set([...lens.needed(lens.frame), ...lens.needed(lens.wanted)].map(job => job.url));
    for (const [old, dropped] of cache) {           // never a visible image
      if (bytes <= budget) break;
      if (protectedUrls.has(old) || old === url) continue;
      cache.delete(old);
      bytes -= dropped.bytes;
      dropped.bitmap?.close();
    }
    return entry;
  }

  // Passes a bitmap to use() for a moment: a slice through the clip, thumbnails. A few at a time, so that the frame that is
  // waited for comes first; a bitmap for which the cache has no room is closed after use. Resolves to whether it was there.
  function fetchLowPriority(url, use, cancelled) {
    const known = cache.get(url);
    if (known) { use(known.bitmap); return Promise.resolve(true); }
    return new Promise(done => {
      queue.push({ url, use, cancelled, done });
      if (workers < LOW_PRIORITY_WORKERS) work();
    });
  }

  async function work() {
    workers++;
    for (let job = queue.shift(); job; job = queue.shift()) job.done(!job.cancelled() && await useOnce(job));
    workers--;
  }

  async function useOnce({ url, use, cancelled }) {
    const known = cache.get(url)?.bitmap;
    if (known || failed.has(url)) { if (known) use(known); return !!known; }
    const bitmap = await fetchBitmap(url).catch(error => { failed.set(url, reason(error)); });
    if (bitmap && !cancelled()) use(bitmap);
    if (bitmap && !cache.has(url) && bytes + sizeOf(bitmap) <= budget) keep(url, { bitmap, bytes: sizeOf(bitmap) });
    else bitmap?.close();
    return !!bitmap;
  }

  // While the slider moves, requests that are no longer needed must not delay those that are.
  function abortAllBut(urls) {
    for (const [url, job] of pending) {
      if (urls.has(url)) continue;
      pending.delete(url);
      job.control.abort();
    }
  }

  return {
    cached, fetchEntry, fetchLowPriority, abortAllBut, cache, pending, failed,
    bitmap: key => cache.get(imageUrl(lens.method(key).image_folder, lens.frame))?.bitmap || null,
    overlayEntry: (kind, key) => (kind.by_method[key] ? cache.get(imageUrl(kind.by_method[key].image_folder, lens.frame)) || null : null),
  };
}
