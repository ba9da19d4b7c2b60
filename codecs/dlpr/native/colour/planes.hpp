// From pixels to the planes that a decoder of YCbCr had, and what size its chroma planes were: an encoder's choice.
//
//   pixels -> lattice -> a triple for each pixel; of pixels cut off at 0 or 255 the one most like its surroundings
//     -> the filter whose upsampling gives the chroma planes -> planes at their own size -> luma that gives the pixel
#pragma once
#include "colour/chroma.hpp"
#include "colour/detect.hpp"
#include "common/prediction_cost.hpp"

namespace dlpr {

struct ColourPlanes {
  FoundLattice found;
  ChromaShape shape;
  std::vector<uint8_t> luma, chroma[2];
};

class ColourAnalysis {
 public:
  // x: red, green, blue [H][W][3].
  ColourAnalysis(const uint8_t* x, int H, int W) : x_(x), H_(H), W_(W), n_(size_t(H) * W) {}

  bool run(ColourPlanes& out, bool sizes = true) {
    out.found = find_lattice(x_, H_, W_);
    if (!out.found.matrix) return false;
    const LatticeInverse inverse(out.found.lattice);
    inverse_ = &inverse;
    triples();
    fill();
    resolve();
    out.shape = sizes && H_ >= 16 && W_ >= 16 ? find_shape() : ChromaShape();
    if (out.shape.filter != Filter::kNone) {
      const std::vector<uint8_t> whole[2] = {plane_[1], plane_[2]};
      fit(out);
      set_luma(out);
      if (pays(out, whole)) return true;
      out.shape = ChromaShape();
      for (int c = 0; c < 2; ++c) plane_[1 + c] = whole[c];
    }
    for (int c = 0; c < 2; ++c) out.chroma[c] = plane_[1 + c];
    set_luma(out);
    return true;
  }

 private:
  static constexpr uint8_t kKnown = 8, kSoft = 1;
  bool cut(size_t i) const {
    const uint8_t* p = x_ + 3 * i;
    return p[0] == 0 || p[1] == 0 || p[2] == 0 || p[0] == 255 || p[1] == 255 || p[2] == 255;
  }

  void triples() {
    for (auto& p : plane_) p.assign(n_, 128);
    weight_.assign(n_, 0);
    int t[3] = {0, 128, 128};
    bool have = false;
    for (size_t i = 0; i < n_; ++i) {
      if (cut(i)) continue;
      if (!i || !std::equal(x_ + 3 * i, x_ + 3 * i + 3, x_ + 3 * i - 3) || cut(i - 1))
        have = inverse_->triple(x_ + 3 * i, t);
      if (!have) continue;
      weight_[i] = kKnown;
      for (int c = 0; c < 3; ++c) plane_[c][i] = uint8_t(t[c]);
    }
  }

  // Continues the planes over pixels without a triple: means of what is near, from both ends.
  void fill() {
    std::vector<uint16_t> far(n_);
    std::vector<std::array<uint8_t, 3>> down(n_);
    constexpr int kFar = 60000;
    auto sweep = [&](bool back, auto&& put) {
      for (size_t k = 0; k < n_; ++k) {
        const size_t i = back ? n_ - 1 - k : k;
        if (weight_[i]) {
          far[i] = 0;
          continue;
        }
        const int y = int(i / W_), x = int(i % W_);
        const bool has_a = back ? x + 1 < W_ : x > 0, has_b = back ? y + 1 < H_ : y > 0;
        const size_t a = back ? i + 1 : i - 1, b = back ? i + W_ : i - W_;
        const int da = has_a ? far[a] : kFar, db = has_b ? far[b] : kFar;
        far[i] = uint16_t(std::min(std::min(da, db) + 1, kFar));
        put(i, a, b, da, db);
      }
    };
    auto mean = [&](int c, size_t a, size_t b, int da, int db) {
      if (da >= kFar && db >= kFar) return 128;
      if (da >= kFar) return int(plane_[c][b]);
      if (db >= kFar) return int(plane_[c][a]);
      return (int(plane_[c][a]) * (db + 1) + int(plane_[c][b]) * (da + 1)) / (da + db + 2);
    };
    std::vector<uint16_t> first(n_, 0);
    sweep(false, [&](size_t i, size_t a, size_t b, int da, int db) {
      for (int c = 0; c < 3; ++c) plane_[c][i] = down[i][c] = uint8_t(mean(c, a, b, da, db));
      first[i] = far[i];
    });
    sweep(true, [&](size_t i, size_t a, size_t b, int da, int db) {
      const int back = far[i], there = first[i];
      for (int c = 0; c < 3; ++c) {
        const int v = mean(c, a, b, da, db);
        plane_[c][i] = uint8_t(back >= kFar    ? int(down[i][c])
                               : there >= kFar ? v
                                               : (v * there + down[i][c] * back + (there + back) / 2) / (there + back));
      }
    });
  }

  // The feasible triple of pixel i nearest to chroma (u, v); false if there is none near, or too much was tried.
  bool feasible(size_t i, int u, int v, int wish, int reach, int t[3]) {
    const uint8_t* p = x_ + 3 * i;
    const uint32_t key = uint32_t(p[0]) << 16 | uint32_t(p[1]) << 8 | p[2];
    Failures& failures = failures_[key * 2654435761u >> 24];
    if (failures.key != key) failures = {key, 0};
    if (failures.count >= kFailures) return false;
    auto at = [&](int a, int b) {
      if (a < 0 || b < 0 || a > 255 || b > 255 || tries_ == 0) return false;
      --tries_;
      const int y = inverse_->luma_for(p, a, b, wish);
      if (y >= 0) t[0] = y, t[1] = a, t[2] = b, failures.count = 0;
      return y >= 0;
    };
    if (at(u, v)) return true;
    for (int r = 1; r <= reach; ++r)
      for (int k = 0; k < r; ++k) {  // a ring of |du| + |dv| = r
        const int o = r - k;
        if (at(u + o, v + k) || at(u - k, v + o) || at(u - o, v - k) || at(u + k, v - o)) return true;
      }
    ++failures.count;  // a colour drawn by hand: it would cost as much at each of its pixels
    return false;
  }

  // Triples for pixels that were cut off, near what surrounds them.
  void resolve() {
    tries_ = 400 * n_ + 65536;
    failures_.assign(256, Failures());
    int last[3] = {0, 0, 0};
    size_t last_at = n_;
    for (size_t i = 0; i < n_; ++i) {
      if (!cut(i)) continue;
      int t[3];
      const bool like = last_at < i && i - last_at < 4 && std::equal(x_ + 3 * i, x_ + 3 * i + 3, x_ + 3 * last_at);
      if (like) std::copy_n(last, 3, t);
      else if (!feasible(i, plane_[1][i], plane_[2][i], plane_[0][i], kReach, t)) continue;
      for (int c = 0; c < 3; ++c) plane_[c][i] = uint8_t(t[c]);
      weight_[i] = kSoft;
      std::copy_n(t, 3, last), last_at = i;
    }
  }
  struct Failures {
    uint32_t key = UINT32_MAX;
    int count = 0;
  };
  static constexpr int kFailures = 1000;
  static constexpr int kReach = 40;  // farthest that chroma of a pixel that was cut off is sought

  // ---- the size of chroma ----

  struct Window {
    int y, x, h, w;
    double activity;
  };
  std::vector<Window> windows() const {
    const int side = 48;
    std::vector<Window> all;
    const int step_y = std::max(1, (H_ - std::min(side, H_)) / 4), step_x = std::max(1, (W_ - std::min(side, W_)) / 4);
    for (int y = 0; y + std::min(side, H_) <= H_; y += step_y)
      for (int x = 0; x + std::min(side, W_) <= W_; x += step_x) {
        Window w{y & ~1, x & ~1, std::min(side, H_), std::min(side, W_), 0};
        for (int i = w.y; i + 1 < w.y + w.h; ++i)
          for (int k = w.x; k + 1 < w.x + w.w; ++k) {
            const size_t at = size_t(i) * W_ + k;
            if (weight_[at] < kKnown || weight_[at + 1] < kKnown || weight_[at + W_] < kKnown) continue;
            for (int c = 1; c < 3; ++c)
              w.activity += std::min(
                  4, std::abs(plane_[c][at] - plane_[c][at + 1]) + std::abs(plane_[c][at] - plane_[c][at + W_]));
          }
        all.push_back(w);
      }
    std::stable_sort(all.begin(), all.end(), [](const Window& a, const Window& b) { return a.activity > b.activity; });
    std::vector<Window> out;
    for (const Window& w : all) {
      bool apart = true;
      for (const Window& o : out) apart = apart && (std::abs(o.y - w.y) >= side || std::abs(o.x - w.x) >= side);
      if (apart) out.push_back(w);
      if (out.size() == 3) break;
    }
    return out;
  }

  // Share of the known samples of a window that a shape cannot give; `sweeps` 0 only glances.
  double misses(const ChromaShape& s, const Window& w, int c, int sweeps) const {
    std::vector<uint8_t> target(size_t(w.h) * w.w), weight(target.size());
    for (int y = 0; y < w.h; ++y) {
      std::copy_n(plane_[c].data() + size_t(w.y + y) * W_ + w.x, w.w, target.data() + size_t(y) * w.w);
      std::copy_n(weight_.data() + size_t(w.y + y) * W_ + w.x, w.w, weight.data() + size_t(y) * w.w);
    }
    ChromaFit f(s, target.data(), weight.data(), w.h, w.w);
    sweeps ? f.run(sweeps) : f.glance();
    size_t wrong, all;
    f.differing(kKnown, wrong, all);
    return all ? double(wrong) / double(all) : 0;
  }

  ChromaShape find_shape() const {
    const auto windows_ = windows();
    struct Guess {
      ChromaShape s;
      double cost;
    };
    std::vector<Guess> guesses;
    // Bits of a pixel's two chroma samples, roughly: planes at full size, or smaller ones and what they miss.
    constexpr double kSample = 1.5, kMiss = 9;
    auto cost = [&](const ChromaShape& s, double miss) { return kSample / (s.v * s.h) + kMiss * miss; };
    for (int f = 1; f <= 3; ++f)
      for (int v = 1; v <= 2; ++v)
        for (int h = 1; h <= 2; ++h)
          for (int py = 0; py < v; ++py)
            for (int px = 0; px < h; ++px)
              if (v * h > 1) guesses.push_back({{Filter(f), v, h, py, px}, 0});
    for (Guess& g : guesses)
      for (int c = 1; c < 3; ++c) g.cost += cost(g.s, misses(g.s, windows_[0], c, 0)) / 2;
    std::stable_sort(guesses.begin(), guesses.end(), [](const Guess& a, const Guess& b) { return a.cost < b.cost; });
    guesses.resize(3);
    for (Guess& g : guesses) {
      g.cost = 0;
      for (const Window& w : windows_)
        for (int c = 1; c < 3; ++c) g.cost += cost(g.s, misses(g.s, w, c, 4)) / double(2 * windows_.size());
    }
    const auto best = std::min_element(guesses.begin(), guesses.end(),
                                       [](const Guess& a, const Guess& b) { return a.cost < b.cost; });
    return best->cost < kSample ? best->s : ChromaShape();
  }

  void fit(ColourPlanes& out) {
    tries_ += 40 * n_;
    failures_.assign(256, Failures());
    const ChromaShape& s = out.shape;
    std::vector<uint8_t> target[2] = {plane_[1], plane_[2]}, weight = weight_, full[2];
    ChromaFit u(s, target[0].data(), weight.data(), H_, W_), v(s, target[1].data(), weight.data(), H_, W_);
    for (int round = 0; round < 3; ++round) {
      u.run(round ? 3 : 8), v.run(round ? 3 : 8);
      for (int c = 0; c < 2; ++c) {
        out.chroma[c].resize(size_t(u.rows()) * u.cols());
        (c ? v : u).plane(out.chroma[c].data());
        full[c].resize(n_);
        upsample(s, out.chroma[c].data(), H_, W_, full[c].data());
      }
      if (round == 2) break;
      // Pixels that were cut off: content with what they have now, or drawn to the nearest that they can have.
      size_t open = 0;
      for (size_t i = 0; i < n_; ++i) {
        if (weight_[i] != kSoft) continue;
        int t[3];
        weight[i] = 0;
        if (inverse_->luma_for(x_ + 3 * i, full[0][i], full[1][i], plane_[0][i]) >= 0) continue;
        if (!feasible(i, full[0][i], full[1][i], plane_[0][i], kReach / 3, t)) continue;
        target[0][i] = uint8_t(t[1]), target[1][i] = uint8_t(t[2]), weight[i] = 2, ++open;
      }
      if (!open) break;
      u.retarget(), v.retarget();
    }
    plane_[1] = full[0], plane_[2] = full[1];
  }

  // Whether smaller planes and a residual cost less than planes at full size. Where next to nothing is missed they do;
  // else neither what the simple predictor needs for planes at full size, nor the multiple of the smaller planes that
  // the networks need for upsampled ones, may be exceeded.
  bool pays(const ColourPlanes& p, const std::vector<uint8_t>* whole) const {
    size_t wrong = 0;
    for (size_t i = 0; i < n_; ++i)
      wrong += !inverse_->lattice().gives(p.luma[i], plane_[1][i], plane_[2][i], x_ + 3 * i);
    if (200 * wrong < n_) return true;
    double small = 0, full = 0;
    for (int c = 0; c < 2; ++c) {
      small += prediction_bits(p.chroma[c].data(), p.shape.rows(H_), p.shape.cols(W_), 1, 0);
      full += prediction_bits(whole[c].data(), H_, W_, 1, 0);
    }
    const double total = small + kBitsOfMiss * double(wrong), often = p.shape.v * p.shape.h == 4 ? 2.2 : 1.4;
    return total < std::min(0.75 * full, often * small);
  }
  static constexpr double kBitsOfMiss = 9;

  void set_luma(ColourPlanes& out) {
    out.luma.resize(n_);
    uint8_t* l = out.luma.data();
    for (size_t i = 0; i < n_; ++i) {
      const int y = int(i / W_), x = int(i % W_);
      int wish = plane_[0][i];
      if (cut(i) && (x || y)) {  // like what is decoded before it
        const int a = x ? l[i - 1] : l[i - W_], b = y ? l[i - W_] : l[i - 1], d = x && y ? l[i - W_ - 1] : a;
        const int low = std::min(a, b), high = std::max(a, b);
        wish = d >= high ? low : d <= low ? high : a + b - d;
      }
      l[i] = uint8_t(inverse_->nearest_luma(x_ + 3 * i, plane_[1][i], plane_[2][i], wish));
    }
  }

  const uint8_t* x_;
  int H_, W_;
  size_t n_;
  const LatticeInverse* inverse_ = nullptr;
  std::vector<uint8_t> plane_[3], weight_;
  size_t tries_ = 0;                // left of the searches for pixels that were cut off
  std::vector<Failures> failures_;  // in a row, by colour
};

// The pixels of planes, in coding order [H][W][3]: green, red, blue.
inline void colour_synthesise(const Lattice& l, const ChromaShape& s, const uint8_t* luma, const uint8_t* cb,
                              const uint8_t* cr, int H, int W, uint8_t* out) {
  std::vector<uint8_t> u(size_t(H) * W), v(u.size());
  upsample(s, cb, H, W, u.data());
  upsample(s, cr, H, W, v.data());
  for (size_t i = 0; i < u.size(); ++i) {
    uint8_t p[3];
    l.pixel(luma[i], u[i], v[i], p);
    out[3 * i] = p[1], out[3 * i + 1] = p[0], out[3 * i + 2] = p[2];
  }
}

}  // namespace dlpr
