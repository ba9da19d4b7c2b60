// Samples of a JPEG 2000 image in integers. Sums that no codestream of an encoder brings out of range are taken modulo
// 2^32, so that every image has defined samples.
#pragma once
#include "j2k/bands.hpp"
#include "mixed/levels.hpp"
#include <cstring>

namespace dlpr {

// Bits of a 9/7 sample behind the point. Against OpenJPEG's floats 16 bits leave 7 samples of 100,000 different, 18 and
// more leave 4; int32 holds 13 bits before it.
constexpr int kJ2kFraction = 18;

inline int32_t wrap_add(int32_t a, int32_t b) { return int32_t(uint32_t(a) + uint32_t(b)); }
inline int32_t wrap_sub(int32_t a, int32_t b) { return int32_t(uint32_t(a) - uint32_t(b)); }

// x * factor / 2^30, rounded.
inline int32_t scaled(int32_t x, int64_t factor) { return int32_t((x * factor + (int64_t(1) << 29)) >> 30); }

// Factors of the 9/7 wavelet times 2^30 (Part 1, table F.4), as readers use them: with nine decimals, and 2/K, which
// takes the bands' gain along, slightly off.
constexpr int64_t kAlpha = -1703098781, kBeta = -56886969, kGamma = 948018548, kDelta = 476211856;
constexpr int64_t kLow = 1320889387, kHigh = 1745616896;

// Lifting steps for n values x with neighbours a and b.
struct Minus97 {
  int64_t factor;
  void operator()(int32_t* x, const int32_t* a, const int32_t* b, int n) const {
    for (int i = 0; i < n; ++i) x[i] = wrap_sub(x[i], scaled(wrap_add(a[i], b[i]), factor));
  }
};
struct Low53 {
  void operator()(int32_t* x, const int32_t* a, const int32_t* b, int n) const {
    for (int i = 0; i < n; ++i) x[i] = wrap_sub(x[i], wrap_add(wrap_add(a[i], b[i]), 2) >> 2);
  }
};
struct High53 {
  void operator()(int32_t* x, const int32_t* a, const int32_t* b, int n) const {
    for (int i = 0; i < n; ++i) x[i] = wrap_add(x[i], wrap_add(a[i], b[i]) >> 1);
  }
};

// x * factor / 2^shift, rounded down, to the left again.
inline int32_t whole_times(int32_t x, int64_t factor, int shift, int left) {
  return int32_t(uint32_t(int32_t(x * factor >> shift)) << left);
}
struct WholeStep {
  int64_t factor;
  int shift;
  int64_t half;
  int times;
  void operator()(int32_t* x, const int32_t* a, const int32_t* b, int n) const {
    for (int i = 0; i < n; ++i) {
      const int32_t v = int32_t((wrap_add(a[i], b[i]) * factor + half) >> shift);
      x[i] = wrap_sub(x[i], int32_t(uint32_t(v) * uint32_t(times)));
    }
  }
};

// The low and high values of a signal of at least two values: lines of `width` values, `pitch` from line to line.
// A value's neighbours are of the other kind; at the ends both are the one that exists (symmetric extension).
struct Lines {
  int32_t *low, *high;
  int lows, highs;
  int odd;  // the first value is a high one
  size_t pitch;
  int width;

  template <class Step>
  void each(bool highs_change, const Step& step) const {
    int32_t* x = highs_change ? high : low;
    const int32_t* other = highs_change ? low : high;
    const int n = highs_change ? highs : lows, others = highs_change ? lows : highs;
    const int shift = int(highs_change) == odd ? -1 : 0;  // the first neighbour of value i is i + shift
    if (pitch == 1) {                                     // a single line: values side by side
      const int from = shift < 0 ? 1 : 0, to = std::min(n, others - 1 - shift);
      if (from) step(x, other, other, 1);
      if (to > from) step(x + from, other + from + shift, other + from + shift + 1, to - from);
      for (int i = std::max(from, to); i < n; ++i) step(x + i, other + i + shift, other + i + shift, 1);
      return;
    }
    for (int i = 0; i < n; ++i) {
      const int a = std::max(i + shift, 0), b = std::min(i + shift + 1, others - 1);
      step(x + size_t(i) * pitch, other + size_t(a) * pitch, other + size_t(b) * pitch, width);
    }
  }

  // The lifting of a decoder that rounds every resolution to whole numbers: along rows first, then along columns.
  void whole(bool columns) const {
    const int first = columns ? 15 : 10;
    every(false, [=](int32_t x) { return whole_times(x, 20155, first, columns ? 1 : 0); });
    every(true, [=](int32_t x) { return whole_times(x, 26637, columns ? 15 : 11, 0); });
    each(false, WholeStep{14533, 15, 0, 1});
    every(true, [](int32_t x) { return wrap_add(x, 1) >> 1; });
    each(true, WholeStep{28931, 16, 0, 1});
    if (!columns) every(false, [](int32_t x) { return wrap_add(x, x); });
    each(false, columns ? WholeStep{-13887, 17, 1 << 16, 1} : WholeStep{-13887, 16, 0, 1});
    each(true, WholeStep{-12993, 15, 0, columns ? 2 : 1});
    every(true, [=](int32_t x) { return int32_t(uint32_t(x) << (columns ? 1 : 2)); });
  }

  void synthesise(bool reversible) const {
    if (reversible) {
      each(false, Low53{});
      each(true, High53{});
      return;
    }
    for (int i = 0; i < lows; ++i) scale(low + size_t(i) * pitch, kLow);
    for (int i = 0; i < highs; ++i) scale(high + size_t(i) * pitch, kHigh);
    each(false, Minus97{kDelta});
    each(true, Minus97{kGamma});
    each(false, Minus97{kBeta});
    each(true, Minus97{kAlpha});
  }

 private:
  template <class F>
  void every(bool highs_change, const F& f) const {
    int32_t* x = highs_change ? high : low;
    if (pitch == 1) {
      for (int i = 0, n = highs_change ? highs : lows; i < n; ++i) x[i] = f(x[i]);
      return;
    }
    for (int i = 0, n = highs_change ? highs : lows; i < n; ++i, x += pitch)
      for (int k = 0; k < width; ++k) x[k] = f(x[k]);
  }
  void scale(int32_t* x, int64_t factor) const {
    for (int i = 0; i < width; ++i) x[i] = scaled(x[i], factor);
  }
};

// Inverse wavelet transform of one resolution step: `plane` holds LL HL / LH HH side by side in the first rows x cols
// of lines of `stride` values.
class Synthesis {
 public:
  enum Kind { kReal, kReversible, kWhole };  // of kWhole the result has 5 bits behind the point
  static Kind kind_of(const J2kComponent& c) { return c.reversible ? kReversible : c.whole ? kWhole : kReal; }

  void step(int32_t* plane, size_t stride, const J2kRect& low, const J2kRect& full, Kind kind) {
    const int rows = full.y1 - full.y0, cols = full.x1 - full.x0;
    const int low_rows = low.y1 - low.y0, low_cols = low.x1 - low.x0;
    if (rows < 1 || cols < 1) return;
    across(plane, stride, rows, cols, low_cols, full.x0 & 1, kind);
    down(plane, stride, rows, cols, low_rows, full.y0 & 1, kind);
  }

 private:
  static int32_t single(int32_t v, int odd, bool reversible) { return odd && reversible ? v / 2 : v; }

  void across(int32_t* plane, size_t stride, int rows, int cols, int lows, int odd, Kind kind) {
    const bool reversible = kind == kReversible;
    line_.resize(size_t(cols));
    for (int y = 0; y < rows; ++y) {
      int32_t* row = plane + size_t(y) * stride;
      if (cols == 1) {
        row[0] = kind == kWhole ? int32_t(uint32_t(row[0]) << 5) : single(row[0], odd, reversible);
        continue;
      }
      Lines s{row, row + lows, lows, cols - lows, odd, 1, 1};
      if (kind == kReal) scale_row(row, lows, cols);
      if (kind == kWhole) {
        s.whole(false);
      } else if (reversible) {
        s.each(false, Low53{});
        s.each(true, High53{});
      } else {
        s.each(false, Minus97{kDelta});
        s.each(true, Minus97{kGamma});
        s.each(false, Minus97{kBeta});
        s.each(true, Minus97{kAlpha});
      }
      int32_t* out = line_.data();
      for (int i = 0; i < lows; ++i) out[2 * i + odd] = row[i];
      for (int i = 0; i < cols - lows; ++i) out[2 * i + 1 - odd] = row[lows + i];
      std::memcpy(row, out, size_t(cols) * sizeof(int32_t));
    }
  }

  static void scale_row(int32_t* row, int lows, int cols) {
    for (int i = 0; i < lows; ++i) row[i] = scaled(row[i], kLow);
    for (int i = lows; i < cols; ++i) row[i] = scaled(row[i], kHigh);
  }

  void down(int32_t* plane, size_t stride, int rows, int cols, int lows, int odd, Kind kind) {
    if (rows == 1) {
      for (int x = 0; x < cols; ++x) plane[x] = single(plane[x], odd, kind == kReversible);
      return;
    }
    constexpr int kGroup = 32;  // columns at a time: their lines stay in the cache
    group_.resize(size_t(rows) * kGroup);
    for (int x0 = 0; x0 < cols; x0 += kGroup) {
      const int width = std::min(kGroup, cols - x0);
      for (int y = 0; y < rows; ++y)
        std::memcpy(&group_[size_t(y) * kGroup], plane + size_t(y) * stride + x0, size_t(width) * sizeof(int32_t));
      Lines s{group_.data(), group_.data() + size_t(lows) * kGroup, lows, rows - lows, odd, kGroup, width};
      if (kind == kWhole) s.whole(true);
      else s.synthesise(kind == kReversible);
      for (int y = 0; y < rows; ++y) {
        const bool high = (y & 1) != odd;
        const int32_t* from = (high ? s.high : s.low) + size_t(y / 2) * kGroup;
        std::memcpy(plane + size_t(y) * stride + x0, from, size_t(width) * sizeof(int32_t));
      }
    }
  }

  std::vector<int32_t> line_, group_;
};

// Value of a coefficient: the middle of what its decoded planes leave open, times the step. Factor and shift of a band.
struct Dequantiser {
  bool reversible, point;
  int64_t factor;
  int shift;  // to the right, or to the left where negative
  Dequantiser(const J2kBand& b, const J2kComponent& c) : reversible(c.reversible), point(b.resolution < c.points) {
    factor = 2048 + b.mantissa;
    shift = 12 + b.exponent - 8 - (c.whole ? (b.orientation >> 1) + (b.orientation & 1) : kJ2kFraction);
  }
  int32_t operator()(int32_t q, int lowest) const {
    if (!q) return 0;
    const int64_t m = q < 0 ? -int64_t(q) : q, twice = 2 * m + (point ? 0 : int64_t(1) << lowest);
    int64_t v;
    if (reversible) v = twice >> 1;
    else if (shift > 0) v = (twice * factor + (int64_t(1) << (shift - 1))) >> shift;
    else v = twice * factor * (int64_t(1) << -shift);
    return int32_t(q < 0 ? -v : v);
  }
};

// Coefficients of a band to values at `out`.
inline void j2k_dequantise(const J2kBand& band, const J2kComponent& component, const int32_t* q, const uint8_t* passes,
                           const uint8_t* missing, int32_t* out, size_t stride) {
  const Dequantiser value(band, component);
  for (int row = 0, n = 0; row < band.grid_rows; ++row)
    for (int col = 0; col < band.grid_cols; ++col, ++n) {
      if (!passes[n]) continue;
      int top, left, bottom, right;
      if (!band.block(row, col, &top, &left, &bottom, &right)) continue;
      const int complete = (passes[n] - 1) / 3, more = (passes[n] - 1) % 3;
      const int lowest = band.planes - missing[n] - 1 - complete;
      const int known = lowest - (more == 2);
      const int32_t fresh = more == 1 ? int32_t(1) << (lowest - 1) : 0;  // became significant in the last pass
      for (int y = top; y < bottom; ++y) {
        const int32_t* from = q + size_t(y) * band.cols();
        int32_t* to = out + size_t(y) * stride;
        for (int x = left; x < right; ++x) {
          const int32_t v = from[x];
          to[x] = value(v, fresh && (v == fresh || v == -fresh) ? lowest - 1 : known);
        }
      }
    }
}

// Values with `bits` behind the point to whole numbers, or, of the samples, to as many bits as other samples have.
inline void whole_numbers(int32_t* plane, size_t stride, const J2kRect& full, int bits, bool samples) {
  for (int y = 0; y < full.y1 - full.y0; ++y)
    for (int x = 0; x < full.x1 - full.x0; ++x) {
      int32_t& v = plane[size_t(y) * stride + size_t(x)];
      if (samples) v = int32_t(uint32_t(v) << (kJ2kFraction - bits));
      else if (bits) v = wrap_add(v, 1 << (bits - 1)) >> bits;
    }
}

inline uint8_t j2k_sample(int64_t v) { return uint8_t(std::max<int64_t>(0, std::min<int64_t>(255, v + 128))); }

// v / 2^shift, halves to the even number.
template <int shift>
inline int64_t nearest(int64_t v) {
  return (v + (int64_t(1) << (shift - 1)) - 1 + (v >> shift & 1)) >> shift;
}

// The same, halves up.
template <int shift>
inline int64_t nearest_up(int64_t v) {
  return (v + (int64_t(1) << (shift - 1))) >> shift;
}

// How near v / 2^shift, rounded to a sample, came to the next one: 0 (very) to 28, plus 128 if that is the one below;
// 31 where samples are whole or cut off.
constexpr uint8_t kJ2kSure = 31;
inline uint8_t j2k_doubt(int64_t v, int64_t rounded, int shift) {
  static const std::vector<uint8_t> levels = [] {
    std::vector<uint8_t> out(257);
    for (int i = 0; i <= 256; ++i) out[size_t(i)] = uint8_t(fine_level(i));
    return out;
  }();
  if (rounded < -128 || rounded > 127) return kJ2kSure;
  const int64_t part = v - rounded * (int64_t(1) << shift), size = part < 0 ? -part : part;
  return uint8_t(levels[size_t(((int64_t(1) << (shift - 1)) - size) >> (shift - 9))] | (part < 0 ? 128 : 0));
}

// RCT or ICT and level shift of n samples of three components, or level shift of one.
inline void j2k_to_samples(const J2kFields& f, const int32_t* const* in, uint8_t* const* out, uint8_t* const* doubts,
                           size_t n, int component) {
  constexpr int64_t one = int64_t(1) << 30;
  const bool doubt = doubts[component] != nullptr;
  if (f.transform && f.comp[0].reversible) {
    for (size_t i = 0; i < n; ++i) {
      const int32_t y = in[0][i], u = in[1][i], v = in[2][i];
      const int32_t g = wrap_sub(y, wrap_add(u, v) >> 2);
      out[0][i] = j2k_sample(wrap_add(v, g)), out[1][i] = j2k_sample(g), out[2][i] = j2k_sample(wrap_add(u, g));
    }
  } else if (f.transform) {
    for (size_t i = 0; i < n; ++i) {
      const int64_t y = in[0][i] * one, u = in[1][i], v = in[2][i];
      const int64_t sums[3] = {y + v * 1505386037, y - u * 369506774 - v * 766801986, y + u * 1902670512};
      for (int k = 0; k < 3; ++k) {
        const int64_t whole = nearest<30 + kJ2kFraction>(sums[k]);
        out[k][i] = j2k_sample(whole);
        if (doubt) doubts[k][i] = j2k_doubt(sums[k], whole, 30 + kJ2kFraction);
      }
    }
  } else if (f.comp[component].reversible) {
    for (size_t i = 0; i < n; ++i) out[component][i] = j2k_sample(in[component][i]);
  } else {
    for (size_t i = 0; i < n; ++i) {
      const int32_t v = in[component][i];
      const int64_t whole = f.comp[component].whole ? nearest_up<kJ2kFraction>(v) : nearest<kJ2kFraction>(v);
      out[component][i] = j2k_sample(whole);
      if (doubt) doubts[component][i] = j2k_doubt(in[component][i], whole, kJ2kFraction);
    }
    return;
  }
  if (doubt && f.comp[0].reversible && f.transform)
    for (int k = 0; k < 3; ++k) std::fill_n(doubts[k], n, kJ2kSure);
  else if (doubt && !f.transform) std::fill_n(doubts[component], n, kJ2kSure);
}

// YCbCr to RGB: 1 as libjpeg and OpenSlide compute it, 2 rounded down, 3 with factors of 8 bits behind the point.
inline void j2k_ycbcr(uint8_t* p, int colour) {
  static const int factors[3][6] = {{91881, -22554, -46802, 116130, 32768, 16},
                                    {91881, -22554, -46802, 116130, 0, 16},
                                    {360, -88, -184, 452, 128, 8}};
  const int* f = factors[colour - 1];
  const int y = p[0], cb = p[1] - 128, cr = p[2] - 128;
  auto clip = [](int v) { return uint8_t(std::max(0, std::min(255, v))); };
  p[0] = clip(y + ((f[0] * cr + f[4]) >> f[5]));
  p[1] = clip(y + ((f[1] * cb + f[2] * cr + f[4]) >> f[5]));
  p[2] = clip(y + ((f[3] * cb + f[4]) >> f[5]));
}

// Pixels uint8 [height, width, components] of the window. Arrays in the order of `bands`. Also the samples' doubts, if
// asked for: those of Y, Cb, Cr at green, blue, red where these are made of them.
inline void j2k_synthesise(const J2kFields& f, const std::vector<J2kBand>& bands, const int32_t* const* q,
                           const uint8_t* const* passes, const uint8_t* const* missing, uint8_t* pixels,
                           uint8_t* doubts = nullptr) {
  const int tiles = f.tile_rows() * f.tile_cols(), each = j2k_tile_bands(f);
  std::vector<int32_t> plane[3];
  std::vector<uint8_t> samples[3], near[3];
  Synthesis synthesis;
  const J2kRect kept = f.kept();
  const size_t pixel = size_t(f.components), line = size_t(f.kept_width()) * pixel;
  for (int t = 0; t < tiles; ++t) {
    const J2kRect tile = j2k_tile(f, t);
    const J2kRect seen{std::max(tile.y0, kept.y0), std::max(tile.x0, kept.x0), std::min(tile.y1, kept.y1),
                       std::min(tile.x1, kept.x1)};
    if (seen.empty()) continue;
    J2kRect area[3];
    const int32_t* in[3] = {};
    uint8_t *out[3] = {}, *unsure[3] = {};
    for (int k = 0; k < f.components; ++k) {
      const J2kComponent& c = f.comp[k];
      area[k] = j2k_resolution(f, tile, k, c.levels);
      const int rows = std::max(area[k].y1 - area[k].y0, 0), cols = std::max(area[k].x1 - area[k].x0, 0);
      plane[k].assign(size_t(rows) * cols + 1, 0), samples[k].resize(size_t(rows) * cols + 1);
      in[k] = plane[k].data(), out[k] = samples[k].data();
      if (doubts) near[k].resize(size_t(rows) * cols + 1), unsure[k] = near[k].data();
      for (int r = 0; r <= c.levels; ++r) {
        const J2kRect full = j2k_resolution(f, tile, k, r);
        const J2kRect low = r ? j2k_resolution(f, tile, k, r - 1) : full;
        const int first = j2k_first_band(f, k, r);
        for (int i = 0; i < (r ? 3 : 1); ++i) {
          const size_t at = size_t(t) * each + size_t(first + i);
          const J2kBand& b = bands[at];
          if (!b.blocks()) continue;
          const size_t y = b.orientation >> 1 ? low.y1 - low.y0 : 0, x = b.orientation & 1 ? low.x1 - low.x0 : 0;
          j2k_dequantise(b, c, q[at], passes[at], missing[at], plane[k].data() + y * cols + x, size_t(cols));
        }
        if (r) synthesis.step(plane[k].data(), size_t(cols), low, full, Synthesis::kind_of(c));
        if (c.whole) whole_numbers(plane[k].data(), size_t(cols), full, r ? 5 : 0, r == c.levels);
      }
    }
    for (int k = 0; k < f.components; ++k)
      if (!f.transform || k == 0) j2k_to_samples(f, in, out, unsure, plane[k].size() - 1, k);
    for (int k = 0; k < f.components; ++k) {
      const J2kComponent& c = f.comp[k];
      const int cols = area[k].x1 - area[k].x0, rows = area[k].y1 - area[k].y0;
      if (cols < 1 || rows < 1) continue;
      // Where a component has fewer samples, each stands for those behind it.
      auto spread = [&](const uint8_t* all, uint8_t* image, int channel) {
        for (int y = seen.y0; y < seen.y1; ++y) {
          const int row = std::max(0, std::min(y / c.sv - area[k].y0, rows - 1));
          uint8_t* to = image + size_t(y - kept.y0) * line + size_t(seen.x0 - kept.x0) * pixel + size_t(channel);
          const uint8_t* from = all + size_t(row) * cols;
          if (c.sh == 1) {
            from += seen.x0 - tile.x0;
            for (int x = 0; x < seen.x1 - seen.x0; ++x) to[size_t(x) * pixel] = from[x];
          } else {
            for (int x = seen.x0; x < seen.x1; ++x)
              to[size_t(x - seen.x0) * pixel] = from[std::max(0, std::min(x / c.sh - area[k].x0, cols - 1))];
          }
        }
      };
      spread(samples[k].data(), pixels, k);
      if (doubts) spread(near[k].data(), doubts, f.colour ? (k + 1) % 3 : k);
    }
    if (f.colour)
      for (int y = seen.y0; y < seen.y1; ++y)
        for (int x = seen.x0; x < seen.x1; ++x)
          j2k_ycbcr(pixels + size_t(y - kept.y0) * line + size_t(x - kept.x0) * pixel, f.colour);
  }
}

}  // namespace dlpr
