// Coefficients whose synthesis gives an image's pixels, when grid, sampling and tables are known.
#pragma once
#include "jpeg/block_rounding.hpp"
#include "jpeg/detect.hpp"
#include "jpeg/synthesis.hpp"
#include <map>
#include <memory>

namespace dlpr {

struct Recovered {
  JpegFields fields;
  std::vector<int16_t> q[3];
  int wrong = 0;  // pixels of the window that the synthesis does not give
};

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
    // Upper triangle R with R'R = A'A + diag(r^2), unknowns in reverse: the first decided is the lowest frequency.
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
  JpegFit(const uint8_t* x, Recovered& r)
      : x_(x),
        r_(r),
        f_(r.fields),
        channels_(f_.components),
        shown_(size_t(f_.H) * f_.W * channels_),
        e_(shown_.size()) {
    for (int c = 0; c < channels_; ++c) r.q[c].resize(f_.blocks(c) * 64);
  }

  // `exact`: for each component its plane at its own size, whole blocks, where it is known without doubt; or null.
  void start(const FloatPlane* exact = nullptr) {
    const std::vector<float> x(x_, x_ + shown_.size());
    FloatPlane planes[3];
    component_planes(x.data(), f_.H, f_.W, channels_, f_.transform, true, planes);
    for (int c = 0; c < channels_; ++c) {
      FloatPlane p = exact ? exact[c] : own_size(planes[c], c, true);
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

  // From exact planes: coefficients under which every sample seen is rounded to what it is, where steps are so small
  // that rounding each by itself is not enough.
  void refine(const FloatPlane* exact) {
    for (int c = 0; c < channels_; ++c) {
      const BlockRounding better(f_.tables[c]);
      if (!better.useful()) continue;
      for (int y = 0; y < f_.rows(c); ++y)
        for (int x = 0; x < f_.cols(c); ++x) {
          const Seen seen = seen_of(c, y, x);
          if (!seen.any()) continue;
          float target[64], weight[64];
          for (int i = 0; i < 8; ++i)
            for (int k = 0; k < 8; ++k) {
              target[8 * i + k] = exact[c].row(8 * y + i)[8 * x + k];
              weight[8 * i + k] = i >= seen.y0 && i < seen.y1 && k >= seen.x0 && k < seen.x1 ? 1.f : 0.f;
            }
          better(target, weight, r_.q[c].data() + (size_t(y) * f_.cols(c) + x) * 64);
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
    return {std::max(seen_top(c) - 8 * y, 0), std::min(seen_bottom(c) - 8 * y, 8), std::max(seen_left(c) - 8 * x, 0),
            std::min(seen_right(c) - 8 * x, 8)};
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
        for (int k = 0; k < 8; ++k)
          sum += m[other][k] * (by_rows ? at[size_t(first + i) * stride + k] : at[size_t(k) * stride + first + i]);
        z[i] = sum;
      }
      int found[8];
      (*solver)(z, found);
      for (int u = 0; u < 8; ++u)
        q[index(u)] = int16_t(std::min(std::max(found[u], -kJpegCoefficientMax), kJpegCoefficientMax));
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

}  // namespace dlpr
