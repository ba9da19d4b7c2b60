// Chroma at the size it had (docs/format/colour-layer.md, C3): upsampling in whole numbers, and for an encoder the
// smaller plane whose upsampling gives a plane. Python twin of the upsampling: colour/chroma.py.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <vector>

namespace dlpr {

enum class Filter : int { kNone = 0, kTriangle = 1, kRepetition = 2, kMean = 3 };

struct ChromaShape {
  Filter filter = Filter::kNone;
  int v = 1, h = 1, py = 0, px = 0;  // factors, and parity of the chunk's first row and column

  bool good() const {
    if (v < 1 || v > 2 || h < 1 || h > 2 || py < 0 || py >= v || px < 0 || px >= h || int(filter) < 0 ||
        int(filter) > 3)
      return false;
    return (filter == Filter::kNone) == (v == 1 && h == 1);
  }
  // Where the chunk's first row stands, in rows, from the first sample of the plane.
  int start(int factor, int parity) const {
    return factor == 1 ? 0 : filter == Filter::kTriangle ? 2 - parity : parity;
  }
  int size(int n, int factor, int parity) const {
    if (factor == 1) return n;
    const int s = start(factor, parity);
    return filter == Filter::kRepetition ? ((n - 1 + s) >> 1) + 1 : ((n + s) >> 1) + 1;
  }
  int rows(int H) const { return size(H, v, py); }
  int cols(int W) const { return size(W, h, px); }
  int shift() const {
    const int n = (v == 2) + (h == 2);
    return filter == Filter::kTriangle ? 2 * n : filter == Filter::kMean ? n : 0;
  }
  int bias(int y, int x) const {  // of output row y, column x
    if (filter == Filter::kMean) return shift() == 2 ? 2 : 1;
    if (filter != Filter::kTriangle) return 0;
    if (h == 1) return ((y + py) & 1) ? 2 : 1;
    return v == 2 ? (((x + px) & 1) ? 7 : 8) : (((x + px) & 1) ? 2 : 1);
  }
  // The two samples that output i is made of and their weights.
  struct Taps {
    int a, b, wa, wb;
  };
  Taps taps(int i, int factor, int parity) const {
    if (factor == 1) return {i, i, 1, 0};
    const int k = i + start(factor, parity), j = k >> 1;
    if (filter == Filter::kRepetition) return {j, j, 1, 0};
    if (filter == Filter::kMean) return k & 1 ? Taps{j, j + 1, 1, 1} : Taps{j, j, 2, 0};
    return k & 1 ? Taps{j, j + 1, 3, 1} : Taps{j, j - 1, 3, 1};
  }
};

// Sums before the shift, bias added: [H][W].
inline void upsample_sums(const ChromaShape& s, const int16_t* p, int H, int W, int16_t* out) {
  const int cols = s.cols(W);
  std::vector<int16_t> t(static_cast<size_t>(cols));
  std::vector<ChromaShape::Taps> across;
  for (int x = 0; x < W; ++x) across.push_back(s.taps(x, s.h, s.px));
  for (int y = 0; y < H; ++y) {
    const auto d = s.taps(y, s.v, s.py);
    const int16_t *a = p + size_t(d.a) * cols, *b = p + size_t(d.b) * cols;
    for (int x = 0; x < cols; ++x) t[size_t(x)] = int16_t(d.wa * a[x] + d.wb * b[x]);
    int16_t* o = out + size_t(y) * W;
    const int even = s.bias(y, 0), odd = s.bias(y, 1);
    for (int x = 0; x < W; ++x) {
      const auto& c = across[size_t(x)];
      o[x] = int16_t(c.wa * t[size_t(c.a)] + c.wb * t[size_t(c.b)] + (x & 1 ? odd : even));
    }
  }
}

// The plane at full size.
inline void upsample(const ChromaShape& s, const uint8_t* p, int H, int W, uint8_t* out) {
  if (s.filter == Filter::kNone) {
    std::copy_n(p, size_t(H) * W, out);
    return;
  }
  const size_t n = size_t(s.rows(H)) * s.cols(W);
  std::vector<int16_t> wide(p, p + n), sums(size_t(H) * W);
  upsample_sums(s, wide.data(), H, W, sums.data());
  const int shift = s.shift();
  for (size_t i = 0; i < sums.size(); ++i) out[i] = uint8_t(sums[i] >> shift);
}

// Finds the smaller plane: integers whose upsampling meets each target, weighted. Floating point only to begin with.
class ChromaFit {
 public:
  // target: full-size plane, filled everywhere; weight: how much each sample matters, 0 = not at all.
  ChromaFit(const ChromaShape& s, const uint8_t* target, const uint8_t* weight, int H, int W)
      : s_(s),
        target_(target),
        weight_(weight),
        H_(H),
        W_(W),
        rows_(s.rows(H)),
        cols_(s.cols(W)),
        shift_(s.shift()),
        p_(size_t(rows_) * cols_),
        sums_(size_t(H) * W),
        dirty_(p_.size(), 1) {
    begin();
    upsample_sums(s_, p_.data(), H_, W_, sums_.data());
  }

  // Only single steps, each sample at most twice: enough to tell filters apart.
  void glance() {
    single();
    single();
  }

  void run(int sweeps) {
    for (int i = 0; i < sweeps; ++i) {
      size_t moved = 0;
      for (int k = 0; k < 8; ++k) {
        const size_t n = single();
        moved += n;
        if (!n) break;
      }
      moved += lines();
      if (!moved) break;
    }
  }

  void retarget() { std::fill(dirty_.begin(), dirty_.end(), uint8_t(1)); }  // targets or weights have changed

  void plane(uint8_t* out) const {
    for (size_t i = 0; i < p_.size(); ++i) out[i] = uint8_t(p_[i]);
  }
  int rows() const { return rows_; }
  int cols() const { return cols_; }

  // Weighted samples that differ, and those that have a weight of `least` or more.
  void differing(int least, size_t& wrong, size_t& all) const {
    wrong = all = 0;
    for (size_t i = 0; i < sums_.size(); ++i)
      if (weight_[i] >= least) ++all, wrong += (sums_[i] >> shift_) != target_[i];
  }

 private:
  struct Reach {  // outputs that a sample is part of, and its weights in them
    int from, n, w[4];
  };
  Reach reach(int j, int factor, int parity, int size) const {
    Reach r{};
    int first, n, w[4];
    if (factor == 1) {
      first = j, n = 1, w[0] = 1;
    } else {
      const int start = s_.start(factor, parity);
      if (s_.filter == Filter::kTriangle) first = 2 * j - 1 - start, n = 4, w[0] = w[3] = 1, w[1] = w[2] = 3;
      else if (s_.filter == Filter::kMean) first = 2 * j - 1 - start, n = 3, w[0] = w[2] = 1, w[1] = 2;
      else first = 2 * j - start, n = 2, w[0] = w[1] = 1;
    }
    r.from = std::max(first, 0);
    for (int i = r.from; i < std::min(first + n, size); ++i) r.w[r.n++] = w[i - first];
    return r;
  }

  int64_t cost(size_t i, int sum) const {
    const int lo = int(target_[i]) << shift_, d = sum < lo ? lo - sum : std::max(sum - lo - ((1 << shift_) - 1), 0);
    return int64_t(weight_[i]) * (d * d + 4 * d + (d ? 8 : 0));
  }

  void begin() {
    // Along each direction what upsampling did is undone: 3/4 of the two outputs nearest to a sample less 1/4 of the
    // next ones (triangle); the sample itself (mean); the mean of both (repetition).
    std::vector<float> full(target_, target_ + size_t(H_) * W_), half(size_t(rows_) * W_), out(p_.size());
    auto along = [&](const float* in, size_t step, int n, int factor, int parity, int size, float* o, size_t o_step) {
      auto at = [&](int i) { return in[size_t(std::min(std::max(i, 0), n - 1)) * step]; };
      const int start = s_.start(factor, parity);
      for (int j = 0; j < size; ++j) {
        float v;
        if (factor == 1) v = at(j);
        else if (s_.filter == Filter::kMean) {
          const int i = 2 * j - start;
          v = i >= n ? 2 * at(n - 1) - at(n - 2) : i < 0 ? 2 * at(0) - at(1) : at(i);
        } else {
          const int i = 2 * j - start;
          if (s_.filter == Filter::kRepetition) v = i < 0 ? at(0) : i + 1 >= n ? at(n - 1) : 0.5f * (at(i) + at(i + 1));
          else v = 0.75f * (at(i) + at(i + 1)) - 0.25f * (at(i - 1) + at(i + 2));
        }
        o[size_t(j) * o_step] = v;
      }
    };
    for (int x = 0; x < W_; ++x)
      along(full.data() + x, size_t(W_), H_, s_.v, s_.py, rows_, half.data() + x, size_t(W_));
    for (int y = 0; y < rows_; ++y)
      along(half.data() + size_t(y) * W_, 1, W_, s_.h, s_.px, cols_, out.data() + size_t(y) * cols_, 1);
    for (size_t i = 0; i < p_.size(); ++i) p_[i] = int16_t(std::min(std::max(std::floor(out[i] + 0.5f), 0.f), 255.f));
  }

  // What changing sample (i, k) by d costs.
  int64_t change(const Reach& r, const Reach& c, int d) const {
    int64_t sum = 0;
    for (int y = 0; y < r.n; ++y) {
      const size_t row = size_t(r.from + y) * W_ + c.from;
      for (int x = 0; x < c.n; ++x) {
        const size_t at = row + x;
        if (weight_[at]) sum += cost(at, sums_[at] + d * r.w[y] * c.w[x]) - cost(at, sums_[at]);
      }
    }
    return sum;
  }
  bool violated(const Reach& r, const Reach& c) const {
    for (int y = 0; y < r.n; ++y) {
      const size_t row = size_t(r.from + y) * W_ + c.from;
      for (int x = 0; x < c.n; ++x)
        if (weight_[row + x] && (sums_[row + x] >> shift_) != target_[row + x]) return true;
    }
    return false;
  }
  void apply(const Reach& r, const Reach& c, int d) {
    for (int y = 0; y < r.n; ++y) {
      const size_t row = size_t(r.from + y) * W_ + c.from;
      for (int x = 0; x < c.n; ++x) sums_[row + x] = int16_t(sums_[row + x] + d * r.w[y] * c.w[x]);
    }
  }
  void touch(int i, int k) {
    for (int y = std::max(i - 2, 0); y <= std::min(i + 2, rows_ - 1); ++y)
      for (int x = std::max(k - 2, 0); x <= std::min(k + 2, cols_ - 1); ++x) dirty_[size_t(y) * cols_ + x] = 1;
  }

  size_t single() {
    size_t moved = 0;
    for (int i = 0; i < rows_; ++i) {
      const Reach r = reach(i, s_.v, s_.py, H_);
      for (int k = 0; k < cols_; ++k) {
        const size_t at = size_t(i) * cols_ + k;
        if (!dirty_[at]) continue;
        dirty_[at] = 0;
        const Reach c = reach(k, s_.h, s_.px, W_);
        if (!violated(r, c)) continue;
        int64_t least = 0;
        int best = 0;
        for (int d : {1, -1, 2, -2}) {
          if (p_[at] + d < 0 || p_[at] + d > 255) continue;
          const int64_t g = change(r, c, d);
          if (g < least) least = g, best = d;
        }
        if (!best) continue;
        apply(r, c, best);
        p_[at] = int16_t(p_[at] + best);
        touch(i, k), ++moved;
      }
    }
    return moved;
  }

  // A row (or a column) of the plane at once, the best of all changes by up to kMost of its samples near something that
  // is wrong: dynamic programming, for an output depends on two neighbours at most.
  static constexpr int kMost = 2, kStates = 2 * kMost + 1;
  bool line(bool across, int i) {
    const int n = across ? cols_ : rows_, factor = across ? s_.h : s_.v, parity = across ? s_.px : s_.py,
              size = across ? W_ : H_;
    if (factor == 1) return false;
    const Reach r = across ? reach(i, s_.v, s_.py, H_) : reach(i, s_.h, s_.px, W_);
    const int start = s_.start(factor, parity);
    auto at = [&](int k, int x) { return across ? size_t(r.from + k) * W_ + x : size_t(x) * W_ + (r.from + k); };
    active_.assign(size_t(n), 0);
    bool any = false;
    for (int x = 0; x < size; ++x)
      for (int k = 0; k < r.n; ++k) {
        const size_t o = at(k, x);
        if (!weight_[o] || (sums_[o] >> shift_) == target_[o]) continue;
        any = true;
        for (int j = std::max((x + start) / 2 - 3, 0); j <= std::min((x + start) / 2 + 4, n - 1); ++j)
          active_[size_t(j)] = 1;
      }
    if (!any) return false;
    // Cost of output k (counted from the first sample) when samples before and after it change by a and b.
    auto output = [&](int place, int wa, int a, int wb, int b) {
      const int x = place - start;
      int64_t sum = 0;
      if (x < 0 || x >= size) return sum;
      for (int k = 0; k < r.n; ++k) {
        const size_t o = at(k, x);
        if (weight_[o]) sum += cost(o, sums_[o] + r.w[k] * (wa * a + wb * b));
      }
      return sum;
    };
    auto sample = [&](int j) -> int16_t& { return across ? p_[size_t(i) * cols_ + j] : p_[size_t(j) * cols_ + i]; };
    constexpr int64_t kNever = int64_t(1) << 50;
    best_.assign(size_t(n) * kStates, kNever);
    from_.assign(size_t(n) * kStates, 0);
    for (int j = 0; j < n; ++j) {
      const int reach_ = active_[size_t(j)] ? kMost : 0, before = j && active_[size_t(j - 1)] ? kMost : 0;
      for (int b = -reach_; b <= reach_; ++b) {
        if (sample(j) + b < 0 || sample(j) + b > 255) continue;
        int64_t own = std::abs(b);
        if (s_.filter == Filter::kMean) own += output(2 * j, 0, 0, 2, b);
        if (s_.filter == Filter::kRepetition) own += output(2 * j, 0, 0, 1, b) + output(2 * j + 1, 0, 0, 1, b);
        int64_t& best = best_[size_t(j) * kStates + b + kMost];
        if (j == 0) {
          best = own;
          continue;
        }
        for (int a = -before; a <= before; ++a) {
          const int64_t so_far = best_[size_t(j - 1) * kStates + a + kMost];
          if (so_far >= kNever) continue;
          int64_t c = so_far + own;
          if (reach_ || before) {
            if (s_.filter == Filter::kTriangle) c += output(2 * j - 1, 3, a, 1, b) + output(2 * j, 1, a, 3, b);
            if (s_.filter == Filter::kMean) c += output(2 * j - 1, 1, a, 1, b);
          }
          if (c < best) best = c, from_[size_t(j) * kStates + b + kMost] = int8_t(a);
        }
      }
    }
    int b = 0;
    for (int d = -kMost; d <= kMost; ++d)
      if (best_[size_t(n - 1) * kStates + d + kMost] < best_[size_t(n - 1) * kStates + b + kMost]) b = d;
    bool moved = false;
    for (int j = n - 1; j >= 0; --j) {
      const int d = b;
      b = from_[size_t(j) * kStates + b + kMost];
      if (!d) continue;
      sample(j) = int16_t(sample(j) + d);
      const Reach c = reach(j, factor, parity, size);
      across ? apply(r, c, d) : apply(c, r, d);
      across ? touch(i, j) : touch(j, i);
      moved = true;
    }
    return moved;
  }
  size_t lines() {
    size_t moved = 0;
    for (int i = 0; i < rows_; ++i) moved += line(true, i);
    for (int k = 0; k < cols_; ++k) moved += line(false, k);
    return moved;
  }

  ChromaShape s_;
  const uint8_t *target_, *weight_;
  int H_, W_, rows_, cols_, shift_;
  std::vector<int16_t> p_, sums_;
  std::vector<uint8_t> dirty_, active_;
  std::vector<int64_t> best_;
  std::vector<int8_t> from_;
};

}  // namespace dlpr
