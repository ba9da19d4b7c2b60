// The networks and tables of one weights file, in the order the kernels want (docs/format sections 4, 5, 8).
#pragma once
#include "networks/geometry.hpp"
#include "networks/layers.hpp"
#include "networks/rans.hpp"
#include <array>
#include <functional>
#include <string>

namespace dlpr {

// A tensor of the weights file; the file is kept alive by the owner of the model.
struct Tensor {
  const void* data;
  std::vector<int64_t> shape;
  std::string dtype;
  int64_t dim(size_t i) const { return i < shape.size() ? shape[i] : 1; }
};
using TensorSource = std::function<Tensor(const std::string&)>;

struct Profile {
  int hidden, blocks, bank, latent, hyper, tau_classes;
  std::array<int, 4> widths;
};

// Multipliers and biases of every conditioned layer for one bank entry (and tau class).
struct Conditioning {
  std::vector<std::vector<int32_t>> mult, add;      // [layer][channel padded], as Rescale has them
  std::array<int32_t, 16> grey_mult{}, grey_add{};  // of the outputs that one channel needs
};

// Per-pixel network: first layer (masked context, x~, u head by pixel parity), hidden layers, output.
struct PixelNet {
  int hidden = 0, blocks = 0, padded = 0;
  static constexpr int kPairs = kFeatures / 2;
  std::array<std::vector<int16_t>, 4> first;  // by pixel parity 2 (y & 1) + (x & 1): [pair][padded][2]
  std::vector<int32_t> position;              // [8][8][padded], with the rounding of first_shift
  std::vector<int32_t> first_shift;
  std::vector<Layer> layers;  // hidden.0 .. hidden.blocks, out
  std::vector<Conditioning> bank;
  // The same with one channel: folded inputs, and the outputs of channel 0 alone (mean, log scale, logit).
  static constexpr int kGreyPairs = kGreyFeatures / 2, kGreyOutputs = 3 * kK;
  std::array<std::vector<int16_t>, 4> grey_first;
  std::vector<int16_t> grey_out;
  std::array<int32_t, 16> grey_out_start{}, grey_out_shift{};
  static constexpr int grey_output(int i) { return (i < kK ? kMean : i < 2 * kK ? kLogScale : kLogit) + i % kK; }

  PixelNet() = default;
  PixelNet(const TensorSource& t, const std::string& name, const Profile& p, int tau_class);
  // o[n][80] for n rows of sums of the first layer; scratch [3 n][padded]
  void run(const Kernels& kn, const Conditioning& c, int n, const int32_t* acc_first, int16_t* scratch, int16_t* out,
           bool grey = false) const;
};

inline RawLayer raw_layer(const TensorSource& t, const std::string& n) {
  Tensor w = t(n + ".weight");
  return {static_cast<const int8_t*>(w.data),
          int(w.dim(0)),
          int(w.dim(1)),
          int(w.dim(2)),
          static_cast<const int32_t*>(t(n + ".acc_bias").data),
          static_cast<const uint8_t*>(t(n + ".shift").data),
          static_cast<const int16_t*>(t(n + ".mult").data),
          static_cast<const int16_t*>(t(n + ".bias").data)};
}

inline int16_t sat16(int v) { return int16_t(clampi(v, -32768, 32767)); }

inline PixelNet::PixelNet(const TensorSource& t, const std::string& name, const Profile& p, int tau_class) {
  hidden = p.hidden, blocks = p.blocks, padded = round_up(hidden, 16);
  const int8_t* masked = static_cast<const int8_t*>(t(name + ".masked.weight").data);
  const int8_t* u = static_cast<const int8_t*>(t(name + ".u_head.weight").data);
  for (int parity = 0; parity < 4; ++parity) {
    auto& w = first[parity];
    w.assign(size_t(kPairs) * padded * 2, 0);
    for (int o = 0; o < hidden; ++o)
      for (int i = 0; i < kFeatures; ++i)
        w[(size_t(kFeatPlace.at[i] / 2) * padded + o) * 2 + (kFeatPlace.at[i] & 1)] =
            i < kFeatTrunk ? masked[o * kFeatTrunk + i] : u[(hidden * parity + o) * kTrunk + i - kFeatTrunk];
    auto& grey = grey_first[parity];
    grey.assign(size_t(kGreyPairs) * padded * 2, 0);
    for (int o = 0; o < hidden; ++o)
      for (int i = 0; i < kFeatures; ++i) {
        const int from = kFeatPlace.at[i], to = grey_place(i);
        int16_t& sum = grey[(size_t(to / 2) * padded + o) * 2 + (to & 1)];
        sum = int16_t(sum + w[(size_t(from / 2) * padded + o) * 2 + (from & 1)]);
      }
  }
  const int32_t* pos = static_cast<const int32_t*>(t(name + ".position").data);
  position.assign(size_t(64) * padded, 0);
  const uint8_t* fs = static_cast<const uint8_t*>(t(name + ".first.shift").data);
  for (int i = 0; i < 64; ++i)
    for (int o = 0; o < hidden; ++o) position[size_t(i) * padded + o] = pos[i * hidden + o] + rounding(fs[o]);
  first_shift.assign(padded, 0);
  for (int o = 0; o < hidden; ++o) first_shift[o] = fs[o];
  const int n = blocks + 2;  // conditioned layers before the output
  std::vector<int16_t> unused_mult(256, 0);
  auto plain = [&](const std::string& layer) {
    Tensor w = t(layer + ".weight");
    return RawLayer{static_cast<const int8_t*>(w.data),
                    int(w.dim(0)),
                    int(w.dim(1)),
                    1,
                    static_cast<const int32_t*>(t(layer + ".acc_bias").data),
                    static_cast<const uint8_t*>(t(layer + ".shift").data),
                    unused_mult.data(),
                    unused_mult.data()};
  };
  for (int i = 0; i <= blocks; ++i) layers.emplace_back(plain(name + ".hidden." + std::to_string(i)), false);
  layers.emplace_back(plain(name + ".out"), false);
  const Layer& last = layers.back();
  grey_out.assign(size_t(last.pairs) * 16 * 2, 0);
  for (int i = 0; i < kGreyOutputs; ++i) {
    const int o = grey_output(i);
    grey_out_start[i] = last.start[o], grey_out_shift[i] = last.shift[o];
    for (int k = 0; k < last.pairs; ++k)
      for (int j = 0; j < 2; ++j)
        grey_out[(size_t(k) * 16 + i) * 2 + j] = last.weight[(size_t(k) * last.padded + o) * 2 + j];
  }
  auto table = [&](const char* what) { return static_cast<const int16_t*>(t(name + "." + what).data); };
  const int16_t *bm = table("bank_mult"), *bb = table("bank_bias"), *om = table("bank_out_mult"),
                *ob = table("bank_out_bias");
  const bool sq = tau_class >= 0;
  const int16_t *tm = sq ? table("tau_mult") : nullptr, *tb = sq ? table("tau_bias") : nullptr;
  const int16_t *tom = sq ? table("tau_out_mult") : nullptr, *tob = sq ? table("tau_out_bias") : nullptr;
  bank.resize(p.bank);
  for (int k = 0; k < p.bank; ++k) {
    Conditioning& c = bank[k];
    auto combine = [&](const int16_t* m0, const int16_t* b0, const int16_t* m1, const int16_t* b1, int count) {
      std::vector<int32_t> m(round_up(count, 16), 0), b(m.size(), 0);
      for (int o = 0; o < count; ++o) {
        m[o] = m1 ? sat16((m0[o] * m1[o] + 2048) >> 12) : m0[o];
        b[o] = rescale_add(m1 ? sat16(((b0[o] * m1[o] + 2048) >> 12) + b1[o]) : b0[o]);
      }
      c.mult.push_back(std::move(m)), c.add.push_back(std::move(b));
    };
    for (int i = 0; i < n; ++i) {
      size_t at = (size_t(k) * n + i) * hidden, ta = sq ? (size_t(tau_class) * n + i) * hidden : 0;
      combine(bm + at, bb + at, sq ? tm + ta : nullptr, sq ? tb + ta : nullptr, hidden);
    }
    size_t at = size_t(k) * kNetOutputs, ta = sq ? size_t(tau_class) * kNetOutputs : 0;
    combine(om + at, ob + at, sq ? tom + ta : nullptr, sq ? tob + ta : nullptr, kNetOutputs);
    for (int i = 0; i < kGreyOutputs; ++i)
      c.grey_mult[i] = c.mult.back()[grey_output(i)], c.grey_add[i] = c.add.back()[grey_output(i)];
  }
}

inline void PixelNet::run(const Kernels& kn, const Conditioning& c, int n, const int32_t* acc_first, int16_t* s,
                          int16_t* out, bool grey) const {
  int16_t *h = s, *t = h + size_t(n) * padded, *u = t + size_t(n) * padded;
  kn.rescale(acc_first, n, padded, {nullptr, first_shift.data(), c.mult[0].data(), c.add[0].data(), kActMax, false}, h,
             t);
  for (int i = 0; i <= blocks; ++i) {
    const Layer& l = layers[i];
    kn.layer({t, padded, n, 1, 0, padded / 2}, l.weight.data(), padded,
             {l.start.data(), l.shift.data(), c.mult[i + 1].data(), c.add[i + 1].data(), kActMax, true},
             i == blocks - 1 ? h : nullptr, u);
    std::swap(t, u);
  }
  const Layer& l = layers[blocks + 1];
  if (grey) {
    kn.layer({t, padded, n, 1, 0, l.pairs}, grey_out.data(), 16,
             {grey_out_start.data(), grey_out_shift.data(), c.grey_mult.data(), c.grey_add.data(), kOutMax, false},
             nullptr, h);
    for (int i = 0; i < n; ++i)
      for (int k = 0; k < kGreyOutputs; ++k) out[size_t(i) * kOutPadded + grey_output(k)] = h[16 * i + k];
    return;
  }
  kn.layer({t, padded, n, 1, 0, l.pairs}, l.weight.data(), kOutPadded,
           {l.start.data(), l.shift.data(), c.mult[blocks + 2].data(), c.add[blocks + 2].data(), kOutMax, false},
           nullptr, out);
}

struct Model {
  Profile profile;
  Tables tables;
  const int32_t *gauss_range, *gauss_offset;
  const uint32_t* gauss_cdf;
  const int16_t* z_mean;
  const uint8_t* z_scale;
  const int16_t* linear_mean;
  const uint8_t* linear_scale;
  Layer ge[5], he[3], hd[3], gd[4], up[3], x_head;
  PixelNet rc;
  std::vector<PixelNet> sqrc;  // by tau class

  Model(const TensorSource& t, const Profile& p) : profile(p) {
    auto get = [&](const char* n) { return t(n).data; };
    tables.log = static_cast<const int16_t*>(get("table.log"));
    tables.logistic = static_cast<const int32_t*>(get("table.logistic"));
    const int32_t* mant = static_cast<const int32_t*>(get("table.scale_mant"));
    const int32_t* shift = static_cast<const int32_t*>(get("table.scale_shift"));
    for (int i = 0; i < 321; ++i) tables.scale[i] = mant[i] | shift[i] << 16;
    for (int i = 0; i < 512; ++i) tables.exp[i] = static_cast<const uint16_t*>(get("table.exp"))[i];
    gauss_range = static_cast<const int32_t*>(get("gauss.range"));
    gauss_offset = static_cast<const int32_t*>(get("gauss.offset"));
    gauss_cdf = static_cast<const uint32_t*>(get("gauss.cdf"));
    z_mean = static_cast<const int16_t*>(get("lic.z_mean"));
    z_scale = static_cast<const uint8_t*>(get("lic.z_scale"));
    linear_mean = static_cast<const int16_t*>(get("linear.mean"));
    linear_scale = static_cast<const uint8_t*>(get("linear.scale"));
    auto num = [](const char* base, int i) { return std::string(base) + std::to_string(i); };
    for (int i = 0; i < 5; ++i) ge[i] = Layer(raw_layer(t, num("lic.g_e.c", i)), false);
    for (int i = 0; i < 3; ++i) he[i] = Layer(raw_layer(t, num("lic.h_e.c", i)), false);
    for (int i = 0; i < 3; ++i) hd[i] = Layer(raw_layer(t, num("lic.h_d.c", i)), i < 2);
    for (int i = 0; i < 4; ++i) gd[i] = Layer(raw_layer(t, num("lic.g_d.c", i)), false);
    for (int i = 0; i < 3; ++i) up[i] = Layer(raw_layer(t, num("lic.g_d.up", i)), true);
    x_head = Layer(raw_layer(t, "lic.x_head"), true);
    rc = PixelNet(t, "rc", p, -1);
    for (int j = 0; j < p.tau_classes; ++j) sqrc.emplace_back(t, "sqrc", p, j);
  }
  const PixelNet& net(int tau) const {
    return tau == 0 ? rc : sqrc[size_t(tau < profile.tau_classes ? tau : profile.tau_classes) - 1];
  }

  // latent symbols (docs/format section 10)
  void put_latent(LaneEncoder& e, int scale, int s) const {
    int r = gauss_range[scale];
    const uint32_t* f = gauss_cdf + gauss_offset[scale];
    int i = s >= -r && s <= r ? s + r : 2 * r + 1;
    e.put(f[i], f[i + 1] - f[i]);
    if (i == 2 * r + 1) e.put_uniform(uint32_t(s + 32768), 65536);
  }
  int take_latent(LaneDecoder& d, int scale) const {
    int r = gauss_range[scale];
    const uint32_t* f = gauss_cdf + gauss_offset[scale];
    uint32_t slot = d.slot();
    int a = 0, b = 2 * r + 2;
    while (b - a > 1) {
      int mid = (a + b) / 2;
      if (f[mid] <= slot) a = mid;
      else b = mid;
    }
    d.take(f[a], f[a + 1] - f[a]);
    return a == 2 * r + 1 ? int(d.uniform(65536)) - 32768 : a - r;
  }
};

}  // namespace dlpr
