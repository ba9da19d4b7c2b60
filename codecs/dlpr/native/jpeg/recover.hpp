// The JPEG that pixels were decoded from: its coefficients, found by inverting the decoder and checked by running it.
//
//   pixels -> planes (Y exact, chroma at full size exact) -> chroma at its own size (inverse of the triangle filter)
//     -> DCT, rounded to the tables' steps -> synthesis -> what differs goes round again
#pragma once
#include "jpeg/fit.hpp"

namespace dlpr {

// Coefficients of the whole blocks of the window whose pixels were not cut off, at most `most`. Blocks of a component
// of which each sample stands for v x h pixels begin at pixel (y0, x0) of the window.
inline std::vector<std::array<float, 64>> block_coefficients(const FloatPlane& p, int y0, int x0, int v, int h,
                                                             const ClippedCount& clipped, int height, int width,
                                                             size_t most) {
  std::vector<std::array<float, 64>> out;
  const int margin_y = v == 2 ? 2 : 0, margin_x = h == 2 ? 2 : 0;
  std::vector<std::pair<int, int>> at;
  for (int allowed : {0, 1, 4}) {
    at.clear();
    for (int y = y0; y + 8 * v + margin_y <= height; y += 8 * v)
      for (int x = x0; x + 8 * h + margin_x <= width; x += 8 * h)
        if (y >= margin_y && x >= margin_x &&
            clipped.in(y - margin_y, x - margin_x, y + 8 * v + margin_y, x + 8 * h + margin_x) <= allowed * v * h)
          at.push_back({y, x});
    if (at.size() >= 16) break;
  }
  const size_t step = std::max<size_t>(1, at.size() / most);
  for (size_t i = 0; i < at.size(); i += step) {
    out.emplace_back();
    dct()(p.row((at[i].first - y0 % v) / v) + (at[i].second - x0 % h) / h, p.w, out.back().data());
  }
  return out;
}

struct Sampling {
  int v, h, box, y0, x0;  // y0, x0: where an MCU begins in the window, below its size
  TableGuess tables[2];
  double gain = -1e30;
  bool own = false;  // a table is not standard; such fit by chance more easily
};

// Tables and fit of one way to sample chroma.
inline void guess_chroma(Sampling& s, const FloatPlane* planes, const ClippedCount& clipped, int around, int likely) {
  static const CombGain narrow(0.35f), wide(0.45f),
      widest(0.5f);  // each inverse filter makes the rounding noise larger
  const int halves = s.box ? 0 : s.v + s.h - 2;
  const CombGain& gain = halves == 0 ? narrow : halves == 1 ? wide : widest;
  const float threshold = halves == 0 ? 1.f : halves == 1 ? 1.6f : 2.f;
  double total = 0;
  int count = 0;
  s.own = false;
  for (int c = 0; c < 2; ++c) {
    const FloatPlane& full = planes[1 + c];
    const int oy = s.y0 % s.v, ox = s.x0 % s.h;  // rows and columns before the first whole pair
    FloatPlane p(full.h - oy, full.w - ox);
    for (int y = 0; y < p.h; ++y) std::copy_n(full.row(y + oy) + ox, p.w, p.row(y));
    if (s.h == 2) p = halve_columns(p, s.box);
    if (s.v == 2) p = halve_rows(p, s.box);
    const auto blocks = block_coefficients(p, s.y0, s.x0, s.v, s.h, clipped, full.h, full.w, around ? 64 : 200);
    TableGuess& t = s.tables[c];
    t = guess_table(blocks, true, gain, threshold, around, likely);
    if (t.count < 20) continue;
    total += double(t.mean) * t.count, count += t.count;
    s.own = s.own || t.quality == 0;
  }
  s.gain = count ? (s.own ? 0.4 : 1) * total / count : 0;
}

// How chroma was sampled: the way back that leaves coefficients on multiples of some table. Most likely first.
inline std::vector<Sampling> guess_sampling(const FloatPlane* planes, int grid_y, int grid_x,
                                            const ClippedCount& clipped, int quality) {
  std::vector<Sampling> all;
  for (int v = 1; v <= 2; ++v)
    for (int h = 1; h <= 2; ++h)
      for (int box = 0; box <= (v * h > 1); ++box)
        for (int ky = 0; ky < v; ++ky)
          for (int kx = 0; kx < h; ++kx) all.push_back({v, h, box, grid_y + 8 * ky, grid_x + 8 * kx, {}, 0, false});
  auto better = [](const Sampling& a, const Sampling& b) { return a.gain > b.gain; };
  for (Sampling& s : all) guess_chroma(s, planes, clipped, quality, quality);
  std::stable_sort(all.begin(), all.end(), better);
  if (all[0].gain > 0.15) {
    guess_chroma(all[0], planes, clipped, 0, quality);
  } else {  // of another quality than luma
    for (Sampling& s : all) guess_chroma(s, planes, clipped, 0, quality);
    std::stable_sort(all.begin(), all.end(), better);
  }
  return all;
}

// What mode colour knows of an image's planes.
struct PlaneSearch {
  // Whether colours are those that libjpeg makes of whole-numbered Y, Cb, Cr.
  bool (*decoded)(const uint8_t* x, int h, int w);
  // The planes of a JPEG's components, whole blocks, level 128 taken off; false if chroma's way to size is another.
  bool (*exact)(const uint8_t* x, const JpegFields& f, FloatPlane* out);
};

// The same JPEG with coefficients from exact planes, if that gives more of the pixels.
inline void refine_fit(const uint8_t* x, std::unique_ptr<Recovered>& found, const PlaneSearch& planes, int rounds) {
  auto r = std::make_unique<Recovered>(*found);
  FloatPlane exact[3];
  if (!planes.exact(x, r->fields, exact)) return;
  JpegFit fit(x, *r);
  fit.start(exact);
  fit.refine(exact);
  fit.run(rounds);
  if (r->wrong < found->wrong) found = std::move(r);
}

// `chroma`: the one channel is a plane of Cb or Cr, whose standard tables are others. `keen`: it is a decoder's plane,
// so that a faint trace is followed.
inline std::unique_ptr<Recovered> recover_jpeg(const uint8_t* x, int h, int w, int channels, int rounds,
                                               const PlaneSearch& planes, bool chroma = false, bool keen = false) {
  if (h < 24 || w < 24) return nullptr;
  static const CombGain narrow(0.33f);
  std::vector<float> samples(x, x + size_t(h) * w * channels);
  FloatPlane ycc[3], rgb[3];
  if (channels == 3) component_planes(samples.data(), h, w, 3, 1, true, ycc);
  component_planes(samples.data(), h, w, channels, 0, true, rgb);
  const ClippedCount clipped(x, h, w, channels);
  const FloatPlane& luma = channels == 3 ? ycc[0] : rgb[0];
  auto out = std::make_unique<Recovered>();
  JpegFields& f = out->fields;
  f.H = h, f.W = w, f.components = channels;
  TableGuess best;
  int transform = 0, y0 = 0, x0 = 0;
  for (int g : guess_grid(luma, clipped)) {
    for (int t = channels == 3; t >= 0; --t) {
      const auto blocks = block_coefficients(t ? ycc[0] : rgb[channels == 3], g / 8, g % 8, 1, 1, clipped, h, w, 250);
      TableGuess guess = guess_table(blocks, chroma, narrow, 0.9f);
      if (guess.count >= 20 && guess.mean > best.mean) best = guess, transform = t, y0 = g / 8, x0 = g % 8;
    }
  }
  // Steps near 1 leave a weak comb; it is looked for where the planes are known to be a decoder's.
  bool weak = false;
  if (best.mean < 0.15f && (channels == 1 ? keen : planes.decoded(x, h, w))) {
    static const CombGain wrapped(0.3f, true);
    for (int g : guess_grid(luma, clipped, 0.3f)) {
      const auto blocks = block_coefficients(luma, g / 8, g % 8, 1, 1, clipped, h, w, 1000);
      TableGuess guess = guess_table(blocks, chroma, wrapped, 0.9f);
      if (double(guess.mean) * guess.count > 60 && guess.mean > 0.02f && (!weak || guess.mean > best.mean))
        best = guess, transform = channels == 3, y0 = g / 8, x0 = g % 8, weak = true;
    }
  }
  if (best.mean < 0.15f && !weak) {
    const int g = guess_flat_grid(luma);
    if (g < 0) return nullptr;
    for (int t = channels == 3; t >= 0; --t) {
      const std::vector<const FloatPlane*> planes = t ? std::vector<const FloatPlane*>{&ycc[0]}
                                                    : channels == 3
                                                        ? std::vector<const FloatPlane*>{&rgb[0], &rgb[1], &rgb[2]}
                                                        : std::vector<const FloatPlane*>{&rgb[0]};
      const TableGuess guess = guess_flat_table(planes, g / 8, g % 8, clipped, narrow, 0.9f, chroma);
      if (guess.mean > best.mean) best = guess, transform = t, y0 = g / 8, x0 = g % 8;
    }
  }
  if (best.mean < 0.15f && !weak) return nullptr;
  f.transform = transform;
  std::copy_n(best.q, 64, f.tables[0]);
  std::vector<Sampling> ways{{1, 1, 0, y0, x0, {}, 0, false}};
  if (transform) ways = guess_sampling(ycc, y0, x0, clipped, best.nearest);
  // Standard tables that fit well are right. Where chroma says little, synthesis decides.
  if (ways[0].gain > 0.15 && !ways[0].own) ways.resize(1);
  std::vector<std::unique_ptr<Recovered>> found;
  for (const Sampling& s : ways) {
    auto r = std::make_unique<Recovered>(*out);
    JpegFields& g = r->fields;
    g.sv = s.v, g.sh = s.h, g.box = s.box;
    g.phase_y = (8 * s.v - s.y0) % (8 * s.v), g.phase_x = (8 * s.h - s.x0) % (8 * s.h);
    for (int c = 1; c < channels; ++c) {
      const TableGuess& t = s.tables[c - 1];
      if (!transform) std::copy_n(best.q, 64, g.tables[c]);
      else if (t.count >= 20 && s.gain > 0.15) std::copy_n(t.q, 64, g.tables[c]);
      else standard_table(true, best.nearest, g.tables[c]);
    }
    JpegFit fit(x, *r);
    fit.start();
    fit.run(ways.size() > 1 ? 0 : rounds);
    found.push_back(std::move(r));
  }
  auto better = [](const std::unique_ptr<Recovered>& a, const std::unique_ptr<Recovered>& b) {
    return a->wrong < b->wrong;
  };
  if (found.size() > 1) {
    std::stable_sort(found.begin(), found.end(), better);
    found.resize(2);
    for (auto& r : found) JpegFit(x, *r).run(rounds);
    std::stable_sort(found.begin(), found.end(), better);
  }
  if (found[0]->wrong > h * w / 10) {  // steps of its own may be mistaken: the standard tables all through
    auto r = std::make_unique<Recovered>(*found[0]);
    for (int c = 0; c < channels; ++c) standard_table(chroma || (transform && c), best.nearest, r->fields.tables[c]);
    JpegFit fit(x, *r);
    fit.start();
    fit.run(rounds);
    if (better(r, found[0])) found[0] = std::move(r);
  }
  // Worth its time where luma's steps are small: quality 94 and above.
  const JpegFields& g = found[0]->fields;
  const int most = channels == 1 ? 0 : g.subsampled() ? h * w / 25 : h * w / 100;
  if (found[0]->wrong > most && BlockRounding(g.tables[0]).useful()) refine_fit(x, found[0], planes, rounds);
  return std::move(found[0]);
}

}  // namespace dlpr
