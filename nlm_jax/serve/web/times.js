// Times as people read them.
const two = (number) => String(number).padStart(2, "0");

/** "4.2 s", "1:05.0", "1:02:03.5". */
export function seconds(t) {
  const tenths = Math.round(t * 10);
  if (tenths < 600) return `${(tenths / 10).toFixed(1)} s`;
  const hours = Math.floor(tenths / 36_000), minutes = Math.floor(tenths / 600) % 60, rest = ((tenths % 600) / 10).toFixed(1).padStart(4, "0");
  return hours ? `${hours}:${two(minutes)}:${rest}` : `${minutes}:${rest}`;
}
