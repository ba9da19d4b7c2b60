// The JPEG that pixels were decoded from: its coefficients, found by inverting the decoder and checked by running it.
//
//   pixels -> planes (Y exact, chroma at full size exact) -> chroma at its own size (inverse of the triangle filter)
//     -> DCT, rounded to the tables' steps -> synthesis -> what differs goes round again
#pragma once
#include "jpeg_synthesis.hpp"
#include "jpeg_detect.hpp"
#include <map>
#include <memory>

namespace dlpr {

struct Recovered {
  JpegFields fields;
  std::vector<int16_t> q[3];
  int wrong = 0;  // pixels of the window that the synthesis does not give
};

// Components of pixels [h][w][channels], level 128 taken off except from chroma. Differences of pixels: `exact` off.
inline void component_planes(const float* x, int h, int w, int channels, int transform, bool exact, FloatPlane* out) {
  const size_t n = size_t(h) * w;
  for (int c = 0; c < channels; ++c) out[c] = FloatPlane(h, w);
  if (transform == 0) {
    for (size_t i = 0; i < n; ++i)
      for (int c = 0; c < channels; ++c) out[c].v[i] = x[i * channels + c] - (exact ? 128.f : 0.f);
    return;
  }
  for (size_t i = 0; i < n; ++i) {
    const float r = x[3 * i], g = x[3 * i + 1], b = x[3 * i + 2];
    float y = 0.299f * r + 0.587f * g + 0.114f * b;  // within 1/2 of the decoder's integer: its weights sum to 1
    if (exact) y = std::floor(y + 0.5f);
    float cb = (b - y) * (1 / 1.772f), cr = (r - y) * (1 / 1.402f);
    if (exact) cb = std::floor(cb + 0.5f), cr = std::floor(cr + 0.5f);
    out[0].v[i] = y - (exact ? 128.f : 0.f), out[1].v[i] = cb, out[2].v[i] = cr;
  }
}

// Half the columns: the samples that upsampling made these from. Triangle filter: 3/4 of the two that stem from a
// sample less 1/4 of their neighbours is that sample; repetition: the mean.
inline FloatPlane halve_columns(const FloatPlane& p, bool box) {
  FloatPlane out(p.h, p.w / 2);
  for (int y = 0; y < p.h; ++y) {
    const float* s = p.row(y);
    float* o = out.row(y);
    for (int x = 0; x < out.w; ++x) {
      const float in = s[2 * x] + s[2 * x + 1];
      o[x] = box ? 0.5f * in : 0.75f * in - 0.25f * (s[std::max(2 * x - 1, 0)] + s[std::min(2 * x + 2, p.w - 1)]);
    }
  }
  return out;
}

inline FloatPlane halve_rows(const FloatPlane& p, bool box) {
  FloatPlane out(p.h / 2, p.w);
  for (int y = 0; y < out.h; ++y) {
    const float *a = p.row(2 * y), *b = p.row(2 * y + 1), *before = p.row(std::max(2 * y - 1, 0)), *after = p.row(std::min(2 * y + 2, p.h - 1));
    float* o = out.row(y);
    for (int x = 0; x < p.w; ++x) o[x] = box ? 0.5f * (a[x] + b[x]) : 0.75f * (a[x] + b[x]) - 0.25f * (before[x] + after[x]);
  }
  return out;
}

// `p` at row y, column x of a plane [h][w] that continues with the edge samples, or with zeros.
inline FloatPlane on_canvas(const FloatPlane& p, int y0, int x0, int h, int w, bool replicate) {
  FloatPlane out(h, w);
  for (int y = 0; y < h; ++y) {
    const int sy = std::min(std::max(y - y0, 0), p.h - 1);
    if (!replicate && sy != y - y0) continue;
    const float* s = p.row(sy);
    float* o = out.row(y);
    for (int x = 0; x < w; ++x) {
      const int sx = std::min(std::max(x - x0, 0), p.w - 1);
      o[x] = replicate || sx == x - x0 ? s[sx] : 0.f;
    }
  }
  return out;
}

// Coefficients of the whole blocks of the window whose pixels were not cut off, at most `most`. Blocks of a component
// of which each sample stands for v x h pixels begin at pixel (y0, x0) of the window.
inline std::vector<std::array<float, 64>> block_coefficients(const FloatPlane& p, int y0, int x0, int v, int h, const ClippedCount& clipped, int height, int width, size_t most) {
  std::vector<std::array<float, 64>> out;
  const int margin_y = v == 2 ? 2 : 0, margin_x = h == 2 ? 2 : 0;
  std::vector<std::pair<int, int>> at;
  for (int allowed : {0, 1, 4}) {
    at.clear();
    for (int y = y0; y + 8 * v + margin_y <= height; y += 8 * v)
      for (int x = x0; x + 8 * h + margin_x <= width; x += 8 * h)
        if (y >= margin_y && x >= margin_x && clipped.in(y - margin_y, x - margin_x, y + 8 * v + margin_y, x + 8 * h + margin_x) <= allowed * v * h) at.push_back({y, x});
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
inline void guess_chroma(Sampling& s, const FloatPlane* planes, const ClippedCount& clipped, int around) {
  static const CombGain narrow(0.35f), wide(0.45f), widest(0.5f);  // each inverse filter makes the rounding noise larger
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
    t = guess_table(blocks, true, gain, threshold, around);
    if (t.count < 20) continue;
    total += double(t.mean) * t.count, count += t.count;
    s.own = s.own || t.quality == 0;
  }
  s.gain = count ? (s.own ? 0.4 : 1) * total / count : 0;
}

// How chroma was sampled: the way back that leaves coefficients on multiples of some table. Most likely first.
inline std::vector<Sampling> guess_sampling(const FloatPlane* planes, int grid_y, int grid_x, const ClippedCount& clipped, int quality) {
  std::vector<Sampling> all;
  for (int v = 1; v <= 2; ++v)
    for (int h = 1; h <= 2; ++h)
      for (int box = 0; box <= (v * h > 1); ++box)
        for (int ky = 0; ky < v; ++ky)
          for (int kx = 0; kx < h; ++kx) all.push_back({v, h, box, grid_y + 8 * ky, grid_x + 8 * kx, {}, 0, false});
  auto better = [](const Sampling& a, const Sampling& b) { return a.gain > b.gain; };
  for (Sampling& s : all) guess_chroma(s, planes, clipped, quality);
  std::stable_sort(all.begin(), all.end(), better);
  if (all[0].gain > 0.15) {
    guess_chroma(all[0], planes, clipped, 0);
  } else {  // of another quality than luma
    for (Sampling& s : all) guess_chroma(s, planes, clipped, 0);
    std::stable_sort(all.begin(), all.end(), better);
  }
  return all;
}

// Continues lines of a block beyond what is seen: the missing samples' expectation given the visible ones, when
// coefficients of frequency u have variance v[u] and samples an error of variance 1/12.
class Continuation {
 public:
  Continuation(const double* variance, int first, int count) : first_(first), count_(count) {
    double a[8][16] = {};
    const auto& m = dct().m;
    for (int i = 0; i < count; ++i) {
      for (int k = 0; k < count; ++k)
        for (int u = 0; u < 8; ++u) a[i][k] += m[u][first + i] * variance[u] * m[u][first + k];
      a[i][i] += 1.0 / 12, a[i][8 + i] = 1;
    }
    for (int i = 0; i < count; ++i) {  // Gauss and Jordan: the matrix is positive definite
      const double d = 1 / a[i][i];
      for (int k = 0; k < 16; ++k) a[i][k] *= d;
      for (int r = 0; r < count; ++r)
        if (r != i) {
          const double g = a[r][i];
          for (int k = 0; k < 16; ++k) a[r][k] -= g * a[i][k];
        }
    }
    for (int n = 0; n < 8; ++n)
      for (int k = 0; k < count; ++k)
        for (int i = 0; i < count; ++i) {
          double cov = 0;
          for (int u = 0; u < 8; ++u) cov += m[u][n] * variance[u] * m[u][first + i];
          w_[n][k] += float(cov * a[i][8 + k]);
        }
  }
  // Eight samples at p, `step` apart, of which first .. first + count - 1 are seen.
  void operator()(float* p, size_t step) const {
    for (int n = 0; n < 8; ++n) {
      if (n >= first_ && n < first_ + count_) continue;
      float s = 0;
      for (int k = 0; k < count_; ++k) s += w_[n][k] * p[size_t(first_ + k) * step];
      p[n * step] = s;
    }
  }

 private:
  int first_, count_;
  float w_[8][8] = {};
};

// Integers k that make ||z - A k||^2 + sum (r k)^2 smallest, or nearly: depth first, nearest values first, within a
// budget of nodes (Schnorr and Euchner, Mathematical Programming 66, 1994). A is [m][8].
class IntegerLeastSquares {
 public:
  IntegerLeastSquares(const double (*a)[8], int m, const double* r) : m_(m) {
    for (int i = 0; i < m; ++i) std::copy_n(a[i], 8, a_[i]);
    // Upper triangle R with R'R = A'A + diag(r^2), unknowns in reverse: the last, decided first, is the lowest frequency.
    double g[8][8];
    for (int i = 0; i < 8; ++i)
      for (int k = 0; k < 8; ++k) {
        g[i][k] = i == k ? r[7 - i] * r[7 - i] + 1e-9 : 0;
        for (int n = 0; n < m; ++n) g[i][k] += a[n][7 - i] * a[n][7 - k];
      }
    for (int i = 0; i < 8; ++i)
      for (int k = i; k < 8; ++k) {
        double s = g[i][k];
        for (int n = 0; n < i; ++n) s -= r_[n][i] * r_[n][k];
        r_[i][k] = i == k ? std::sqrt(std::max(s, 1e-12)) : s / r_[i][i];
      }
  }

  void operator()(const double* z, int* k) const {
    double y[8];  // R'y = A'z
    for (int i = 0; i < 8; ++i) {
      double s = 0;
      for (int n = 0; n < m_; ++n) s += a_[n][7 - i] * z[n];
      for (int n = 0; n < i; ++n) s -= r_[n][i] * y[n];
      y[i] = s / r_[i][i];
    }
    int current[8] = {}, best[8] = {}, step[8] = {};
    double cost[9] = {}, centre[8] = {}, least = 1e300;
    int level = 7, nodes = 0;
    auto enter = [&](int i) {
      double s = y[i];
      for (int n = i + 1; n < 8; ++n) s -= r_[i][n] * current[n];
      centre[i] = s / r_[i][i];
      current[i] = int(std::floor(centre[i] + 0.5));
      step[i] = centre[i] >= current[i] ? 1 : -1;
    };
    enter(level);
    for (;;) {
      const double d = r_[level][level] * (centre[level] - current[level]);
      const double total = cost[level + 1] + d * d;
      if (total < least && ++nodes < kNodes) {
        if (level > 0) {
          cost[level] = total;
          enter(--level);
          continue;
        }
        least = total;
        std::copy_n(current, 8, best);
      } else if (nodes >= kNodes || ++level > 7) {
        break;
      }
      current[level] += step[level];  // 0, 1, -1, 2, -2 ... from the centre
      step[level] = step[level] > 0 ? -step[level] - 1 : -step[level] + 1;
    }
    for (int i = 0; i < 8; ++i) k[7 - i] = best[i];
  }

 private:
  static constexpr int kNodes = 400;
  int m_;
  double a_[8][8] = {}, r_[8][8] = {};
};

// Rounds coefficients until the synthesis gives the pixels, or nothing gets better.
class JpegFit {
 public:
  JpegFit(const uint8_t* x, Recovered& r) : x_(x), r_(r), f_(r.fields), channels_(f_.components), shown_(size_t(f_.H) * f_.W * channels_), e_(shown_.size()) {
    for (int c = 0; c < channels_; ++c) r.q[c].resize(f_.blocks(c) * 64);
  }

  void start() {
    const std::vector<float> x(x_, x_ + shown_.size());
    FloatPlane planes[3];
    component_planes(x.data(), f_.H, f_.W, channels_, f_.transform, true, planes);
    for (int c = 0; c < channels_; ++c) {
      FloatPlane p = own_size(planes[c], c, true);
      continue_edges(p, c);
      for (int y = 0; y < f_.rows(c); ++y)
        for (int x0 = 0; x0 < f_.cols(c); ++x0) {
          const Seen seen = seen_of(c, y, x0);
          float d[64];
          dct()(p.row(8 * y) + 8 * x0, p.w, d);
          round_to(c, y, x0, d, false);
          if (!seen.whole() && seen.any()) fit_part(c, y, x0, p.row(8 * y) + 8 * x0, p.w, seen);
        }
    }
  }

  void run(int rounds) {
    std::vector<int16_t> best[3];
    int least = INT32_MAX, stale = 0;
    for (int i = 0; i <= rounds; ++i) {
      const int wrong = compare();
      if (wrong < least) {
        least = wrong, stale = 0;
        for (int c = 0; c < channels_; ++c) best[c] = r_.q[c];
      } else if (++stale == 2) {
        break;
      }
      if (wrong == 0 || i == rounds) break;
      correct();
    }
    for (int c = 0; c < channels_; ++c) r_.q[c] = std::move(best[c]);
    r_.wrong = least;
  }

 private:
  const uint8_t* x_;
  Recovered& r_;
  const JpegFields& f_;
  int channels_;
  std::vector<uint8_t> shown_;
  std::vector<float> e_;
  std::array<std::array<double, 64>, 3> power_{};  // mean square of coefficients of whole blocks
  std::map<std::array<int, 5>, std::unique_ptr<IntegerLeastSquares>> solvers_;

  int step_y(int c) const { return c ? f_.sv : 1; }
  int step_x(int c) const { return c ? f_.sh : 1; }
  // Rows and columns of component c's plane that the window shows whole.
  int seen_top(int c) const { return (f_.phase_y + step_y(c) - 1) / step_y(c); }
  int seen_left(int c) const { return (f_.phase_x + step_x(c) - 1) / step_x(c); }
  int seen_bottom(int c) const { return (f_.phase_y + f_.H) / step_y(c); }
  int seen_right(int c) const { return (f_.phase_x + f_.W) / step_x(c); }

  // A plane of the window as component c has it, on whole blocks; beyond the window the edge goes on, or zeros.
  FloatPlane own_size(const FloatPlane& plane, int c, bool replicate) const {
    const int h = f_.rows(c) * 8 * step_y(c), w = f_.cols(c) * 8 * step_x(c);
    FloatPlane p = on_canvas(plane, f_.phase_y, f_.phase_x, h, w, replicate);
    if (c && f_.sh == 2) p = halve_columns(p, f_.box);
    if (c && f_.sv == 2) p = halve_rows(p, f_.box);
    return p;
  }

  // Rows y0 .. y1 - 1 and columns x0 .. x1 - 1 of a block that the window shows.
  struct Seen {
    int y0, y1, x0, x1;
    int rows() const { return y1 - y0; }
    int columns() const { return x1 - x0; }
    bool any() const { return y0 < y1 && x0 < x1; }
    bool whole() const { return rows() == 8 && columns() == 8; }
  };
  Seen seen_of(int c, int y, int x) const {
    return {std::max(seen_top(c) - 8 * y, 0), std::min(seen_bottom(c) - 8 * y, 8), std::max(seen_left(c) - 8 * x, 0), std::min(seen_right(c) - 8 * x, 8)};
  }

  void continue_edges(FloatPlane& p, int c) {
    const int top = seen_top(c), left = seen_left(c), bottom = seen_bottom(c), right = seen_right(c);
    double by_row[8] = {}, by_column[8] = {};
    int n = 0;
    for (int y = (top + 7) / 8 * 8; y + 8 <= bottom; y += 8)
      for (int x = (left + 7) / 8 * 8; x + 8 <= right; x += 8, ++n) {
        float d[64];
        dct()(p.row(y) + x, p.w, d);
        for (int k = 0; k < 64; ++k) {
          const double power = double(d[k]) * d[k];
          by_row[k / 8] += power / 8, by_column[k % 8] += power / 8, power_[c][k] += power;
        }
      }
    if (!n) return;
    for (double& v : power_[c]) v = v / n + 0.01;
    for (int u = 0; u < 8; ++u) by_row[u] = by_row[u] / n + 0.01, by_column[u] = by_column[u] / n + 0.01;
    auto rows = [&](int block, int first, int count) {
      const Continuation go(by_row, first, count);
      for (int x = left; x < right; ++x) go(p.row(8 * block) + x, p.w);
    };
    if (top % 8) rows(top / 8, top % 8, std::min(8 - top % 8, bottom - top));
    if (bottom % 8 && bottom / 8 != top / 8) rows(bottom / 8, 0, bottom % 8);
    auto columns = [&](int block, int first, int count) {
      const Continuation go(by_column, first, count);
      for (int y = top / 8 * 8; y < (bottom + 7) / 8 * 8; ++y) go(p.row(y) + 8 * block, 1);
    };
    if (left % 8) columns(left / 8, left % 8, std::min(8 - left % 8, right - left));
    if (right % 8 && right / 8 != left / 8) columns(right / 8, 0, right % 8);
  }

  void round_to(int c, int y, int x, const float* d, bool add) {
    int16_t* q = r_.q[c].data() + (size_t(y) * f_.cols(c) + x) * 64;
    for (int k = 0; k < 64; ++k) {
      const float v = d[k] / float(f_.tables[c][k]) + (add ? float(q[k]) : 0.f);
      q[k] = int16_t(std::min(std::max(std::floor(v + 0.5f), -float(kJpegCoefficientMax)), float(kJpegCoefficientMax)));
    }
  }

  int compare() {
    const int16_t* q[3] = {r_.q[0].data(), r_.q[1].data(), r_.q[2].data()};
    const int order[3] = {0, 1, 2};
    jpeg_synthesise(f_, q, shown_.data(), order);
    int wrong = 0;
    for (size_t i = 0; i < shown_.size(); i += channels_) {
      bool bad = false;
      for (int c = 0; c < channels_; ++c) {
        const int d = int(x_[i + c]) - shown_[i + c];
        e_[i + c] = float(d), bad = bad || d;
      }
      wrong += bad;
    }
    return wrong;
  }

  // What the synthesis lacks goes to the coefficients of the blocks where it lacks something.
  void correct() {
    FloatPlane planes[3];
    component_planes(e_.data(), f_.H, f_.W, channels_, f_.transform, false, planes);
    for (int c = 0; c < channels_; ++c) {
      const FloatPlane p = own_size(planes[c], c, false);
      for (int y = 0; y < f_.rows(c); ++y)
        for (int x = 0; x < f_.cols(c); ++x) {
          const float* at = p.row(8 * y) + 8 * x;
          bool any = false;
          for (int i = 0; i < 8 && !any; ++i)
            for (int k = 0; k < 8; ++k) any = any || at[size_t(i) * p.w + k] != 0;
          if (!any) continue;
          const Seen seen = seen_of(c, y, x);
          if (!seen.any()) continue;
          if (seen.whole()) {
            float d[64];
            dct()(at, p.w, d);
            round_to(c, y, x, d, true);
          } else if (seen.rows() < 8 && seen.columns() < 8) {
            descend(c, y, x, at, p.w, seen.y0, seen.y1, seen.x0, seen.x1);
          } else {
            float target[64];
            shown_block(c, y, x, target);
            for (int i = 0; i < 8; ++i)
              for (int k = 0; k < 8; ++k) target[8 * i + k] += at[size_t(i) * p.w + k];
            fit_part(c, y, x, target, 8, seen);
          }
        }
    }
  }

  // Samples that a block's coefficients stand for, level 128 taken off, before rounding.
  void shown_block(int c, int y, int x, float* out) const {
    const int16_t* q = r_.q[c].data() + (size_t(y) * f_.cols(c) + x) * 64;
    const auto& m = dct().m;
    float half[8][8] = {};  // [vertical frequency][column]
    for (int u = 0; u < 8; ++u)
      for (int v = 0; v < 8; ++v)
        if (const float a = float(q[8 * u + v]) * f_.tables[c][8 * u + v]; a != 0)
          for (int k = 0; k < 8; ++k) half[u][k] += a * m[v][k];
    for (int i = 0; i < 8; ++i)
      for (int k = 0; k < 8; ++k) {
        float sum = 0;
        for (int u = 0; u < 8; ++u) sum += m[u][i] * half[u][k];
        out[8 * i + k] = sum;
      }
  }

  // A block of which some rows, or else some columns, are not seen. Across, the transform is exact; along, the seen
  // samples and what coefficients of a frequency usually amount to decide: eight integers at a time.
  void fit_part(int c, int y, int x, const float* at, size_t stride, const Seen& seen) {
    if (power_[c][0] == 0) return;  // no whole block to learn from
    int16_t* q = r_.q[c].data() + (size_t(y) * f_.cols(c) + x) * 64;
    const auto& m = dct().m;
    const bool by_rows = seen.rows() < 8;  // if columns are missing too they have been continued
    const int first = by_rows ? seen.y0 : seen.x0, count = by_rows ? seen.rows() : seen.columns();
    for (int other = 0; other < 8; ++other) {
      auto index = [&](int u) { return by_rows ? 8 * u + other : 8 * other + u; };
      auto& solver = solvers_[{c, int(by_rows), first, count, other}];
      if (!solver) {
        const int halves = c == 0 || f_.box ? 0 : f_.sv + f_.sh - 2;
        const double noise = 0.3 + 0.15 * halves;
        double a[8][8], ridge[8];
        for (int u = 0; u < 8; ++u) {
          for (int i = 0; i < count; ++i) a[i][u] = double(m[u][first + i]) * f_.tables[c][index(u)];
          ridge[u] = noise * f_.tables[c][index(u)] / std::sqrt(power_[c][size_t(index(u))]);
        }
        solver = std::make_unique<IntegerLeastSquares>(a, count, ridge);
      }
      double z[8];
      for (int i = 0; i < count; ++i) {
        double sum = 0;
        for (int k = 0; k < 8; ++k) sum += m[other][k] * (by_rows ? at[size_t(first + i) * stride + k] : at[size_t(k) * stride + first + i]);
        z[i] = sum;
      }
      int found[8];
      (*solver)(z, found);
      for (int u = 0; u < 8; ++u) q[index(u)] = int16_t(std::min(std::max(found[u], -kJpegCoefficientMax), kJpegCoefficientMax));
    }
  }

  // A block of which rows y0 .. y1 - 1 and columns x0 .. x1 - 1 are seen: the one step of one coefficient that
  // explains most of the error, again and again.
  void descend(int c, int y, int x, const float* at, size_t stride, int y0, int y1, int x0, int x1) {
    int16_t* q = r_.q[c].data() + (size_t(y) * f_.cols(c) + x) * 64;
    const auto& m = dct().m;
    float e[8][8], norm_y[8] = {}, norm_x[8] = {};
    for (int i = y0; i < y1; ++i)
      for (int k = x0; k < x1; ++k) e[i][k] = at[size_t(i) * stride + k];
    for (int u = 0; u < 8; ++u) {
      for (int i = y0; i < y1; ++i) norm_y[u] += m[u][i] * m[u][i];
      for (int k = x0; k < x1; ++k) norm_x[u] += m[u][k] * m[u][k];
    }
    for (int round = 0; round < 24; ++round) {
      float half[8][8] = {};  // [row][horizontal frequency]
      for (int i = y0; i < y1; ++i)
        for (int u = 0; u < 8; ++u)
          for (int k = x0; k < x1; ++k) half[i][u] += m[u][k] * e[i][k];
      float best = 0.25f * float((y1 - y0) * (x1 - x0)) / 8, delta = 0;
      int at_k = -1;
      for (int k = 0; k < 64; ++k) {
        float s = 0;
        for (int i = y0; i < y1; ++i) s += m[k / 8][i] * half[i][k % 8];
        const float step = f_.tables[c][k], norm = norm_y[k / 8] * norm_x[k % 8] * step * step;
        const float steps = std::floor(s * step / norm + 0.5f);
        const float gain = steps * (2 * s * step - steps * norm);
        if (gain > best && std::abs(q[k] + steps) <= kJpegCoefficientMax) best = gain, delta = steps, at_k = k;
      }
      if (at_k < 0) break;
      q[at_k] = int16_t(q[at_k] + int(delta));
      for (int i = y0; i < y1; ++i)
        for (int k = x0; k < x1; ++k) e[i][k] -= delta * float(f_.tables[c][at_k]) * m[at_k / 8][i] * m[at_k % 8][k];
    }
  }
};

inline std::unique_ptr<Recovered> recover_jpeg(const uint8_t* x, int h, int w, int channels, int rounds) {
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
      TableGuess guess = guess_table(blocks, false, narrow, 0.9f);
      if (guess.count >= 20 && guess.mean > best.mean) best = guess, transform = t, y0 = g / 8, x0 = g % 8;
    }
  }
  if (best.mean < 0.15f) {
    const int g = guess_flat_grid(luma);
    if (g < 0) return nullptr;
    for (int t = channels == 3; t >= 0; --t) {
      const std::vector<const FloatPlane*> planes = t ? std::vector<const FloatPlane*>{&ycc[0]} : channels == 3 ? std::vector<const FloatPlane*>{&rgb[0], &rgb[1], &rgb[2]} : std::vector<const FloatPlane*>{&rgb[0]};
      const TableGuess guess = guess_flat_table(planes, g / 8, g % 8, clipped, narrow, 0.9f);
      if (guess.mean > best.mean) best = guess, transform = t, y0 = g / 8, x0 = g % 8;
    }
  }
  if (best.mean < 0.15f) return nullptr;
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
  auto better = [](const std::unique_ptr<Recovered>& a, const std::unique_ptr<Recovered>& b) { return a->wrong < b->wrong; };
  if (found.size() > 1) {
    std::stable_sort(found.begin(), found.end(), better);
    found.resize(2);
    for (auto& r : found) JpegFit(x, *r).run(rounds);
    std::stable_sort(found.begin(), found.end(), better);
  }
  if (found[0]->wrong > h * w / 10) {  // steps of its own may be mistaken: the standard tables all through
    auto r = std::make_unique<Recovered>(*found[0]);
    for (int c = 0; c < channels; ++c) standard_table(transform && c, best.nearest, r->fields.tables[c]);
    JpegFit fit(x, *r);
    fit.start();
    fit.run(rounds);
    if (better(r, found[0])) found[0] = std::move(r);
  }
  return std::move(found[0]);
}

}  // namespace dlpr
