// The linear part of a stream (docs/format section 7): pack and parse of the predictors.
#pragma once
#include "networks/linear.hpp"
#include "networks/model.hpp"

namespace dlpr {

struct GroupCoding {
  int offset = 32, reference = 0;
};

inline int coef_mean(const Model& m, const LinearStage& ls, int k, int c, int i, int reference) {
  if (!reference) return int((m.linear_mean[c * kRegressors + i] * (1 << ls.frac)) >> 12);
  const Predictor& q = ls.p[k - 1][c];
  return i < c + q.count ? q.coef[i] : 0;
}
inline int coef_scale(const Model& m, const LinearStage& ls, int c, int i, int offset) {
  return clampi(m.linear_scale[c * kRegressors + i] + 6 * (ls.frac - 8) + offset - 32, 0, 63);
}

inline double latent_bits(const Model& m, int scale, int s) {
  int r = m.gauss_range[scale];
  const uint32_t* f = m.gauss_cdf + m.gauss_offset[scale];
  int i = s >= -r && s <= r ? s + r : 2 * r + 1;
  return 16.0 - std::log2(double(f[i + 1] - f[i])) + (i == 2 * r + 1 ? 16.0 : 0.0);
}

inline std::vector<uint8_t> write_linear(const Model& m, const LinearStage& ls, int channels) {
  std::vector<uint8_t> out = {uint8_t(ls.frac), uint8_t(ls.classes == 4 ? 2 : ls.classes - 1)};
  LaneEncoder lane;
  for (int k = 0; k < ls.classes; ++k)
    for (int c = 0; c < channels; ++c) {
      const Predictor& q = ls.p[k][c];
      GroupCoding best;
      double best_bits = 1e300;
      for (int ref = 0; ref <= (k > 0); ++ref)
        for (int off = 8; off <= 48; off += 4) {
          double bits = 0;
          for (int i = 0; i < c + q.count; ++i)
            bits += latent_bits(m, coef_scale(m, ls, c, i, off), q.coef[i] - coef_mean(m, ls, k, c, i, ref));
          if (bits < best_bits) best_bits = bits, best.offset = off, best.reference = ref;
        }
      out.push_back(uint8_t(q.count));
      out.push_back(uint8_t(q.bias8 & 255)), out.push_back(uint8_t((q.bias8 >> 8) & 255));
      out.push_back(uint8_t(best.offset)), out.push_back(uint8_t(best.reference));
      for (int i = 0; i < c + q.count; ++i)
        m.put_latent(lane, coef_scale(m, ls, c, i, best.offset), q.coef[i] - coef_mean(m, ls, k, c, i, best.reference));
    }
  lane.finish(out);
  return out;
}

// False if a field is out of range or the lane is damaged.
inline bool read_linear(const Model& m, const uint8_t* p, size_t n, int channels, LinearStage& ls) {
  if (n < 2 || p[0] < 4 || p[0] > 12 || p[1] > 2) return false;
  ls.frac = p[0], ls.classes = 1 << p[1];
  size_t head = 2 + size_t(5) * ls.classes * channels;
  if (n < head) return false;
  LaneDecoder lane(p + head, n - head);
  const uint8_t* g = p + 2;
  for (int k = 0; k < ls.classes; ++k)
    for (int c = 0; c < channels; ++c, g += 5) {
      Predictor& q = ls.p[k][c];
      q.count = g[0], q.bias8 = int16_t(g[1] | g[2] << 8);
      if (q.count > kTapValues || q.bias8 < -8191 || q.bias8 > 8191 || g[3] > 64 || g[4] > (k > 0)) return false;
      for (int i = 0; i < c + q.count; ++i) {
        int v = m.take_latent(lane, coef_scale(m, ls, c, i, g[3])) + coef_mean(m, ls, k, c, i, g[4]);
        if (v < -8191 || v > 8191) return false;
        q.coef[i] = int16_t(v);
      }
    }
  return lane.finished();
}

}  // namespace dlpr
