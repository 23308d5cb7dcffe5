// Archives of text files, not compressed. Source: PKWARE's APPNOTE, sections 4.3.7, 4.3.12 and 4.3.16.
const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n >>> 0;
});

function crc32(bytes) {
  let sum = 0xffffffff;
  for (const byte of bytes) sum = TABLE[(sum ^ byte) & 255] ^ (sum >>> 8);
  return (sum ^ 0xffffffff) >>> 0;
}

/** Little-endian fields: [value, bytes] pairs. */
function fields(...pairs) {
  const out = new Uint8Array(pairs.reduce((sum, [, width]) => sum + width, 0)), view = new DataView(out.buffer);
  let at = 0;
  for (const [value, width] of pairs) {
    if (width === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += width;
  }
  return out;
}

/** Bytes of an archive of `files`, [{name, text}]. */
export function zip(files) {
  const encoder = new TextEncoder(), local = [], central = [], now = new Date();
  const time = (now.getHours() << 11) | (now.getMinutes() << 5) | (now.getSeconds() >> 1);
  const date = ((now.getFullYear() - 1980) << 9) | ((now.getMonth() + 1) << 5) | now.getDate();
  let offset = 0, listing = 0;
  for (const file of files) {
    const name = encoder.encode(file.name), content = encoder.encode(file.text), size = content.length;
    // version 2.0, names in UTF-8, stored
    const common = [[20, 2], [0x800, 2], [0, 2], [time, 2], [date, 2], [crc32(content), 4], [size, 4], [size, 4], [name.length, 2], [0, 2]];
    const header = fields([0x04034b50, 4], ...common), entry = fields([0x02014b50, 4], [20, 2], ...common, [0, 2], [0, 2], [0, 2], [0, 4], [offset, 4]);
    local.push(header, name, content);
    central.push(entry, name);
    offset += header.length + name.length + size;
    listing += entry.length + name.length;
  }
  const end = fields([0x06054b50, 4], [0, 2], [0, 2], [files.length, 2], [files.length, 2], [listing, 4], [offset, 4], [0, 2]);
  const all = [...local, ...central, end], out = new Uint8Array(offset + listing + end.length);
  let at = 0;
  for (const piece of all) { out.set(piece, at); at += piece.length; }
  return out;
}
