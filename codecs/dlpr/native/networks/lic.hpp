// Lossy image codec (docs/format section 5): analysis (encoder), latent coding, synthesis.
#pragma once
#include "networks/model.hpp"

namespace dlpr {

struct Lossy {
  Map trunk;    // [32 GH][32 GW][24]
  Map x_tilde;  // [64 GH][64 GW][3], 0..255
};

inline void synthesise(const Kernels& kn, const Model& m, const Map& y_hat, Lossy& out) {
  Map t, u;
  apply(kn, m.gd[0], y_hat, 1, Act::leaky, t);
  for (int i = 0; i < 3; ++i) {
    apply(kn, m.up[i], t, 1, Act::leaky, u);
    apply(kn, m.gd[i + 1], u, 1, Act::add_leaky, t);
  }
  out.trunk = std::move(t);
  apply(kn, m.x_head, out.trunk, 1, Act::none, out.x_tilde);
  for (auto& v : out.x_tilde.data) v = int16_t(clampi(v + 128, 0, 255));
}

// One channel: x~ of channels 1 and 2 are copies of channel 0 (docs/format section 3).
inline void copy_first_channel(Map& x_tilde) {
  for (int y = 0; y < x_tilde.h; ++y)
    for (int x = 0; x < x_tilde.w; ++x) {
      int16_t* p = x_tilde.at(y, x);
      p[1] = p[2] = p[0];
    }
}

// Repeat the edges of the chunk in the pixels around it: features look there.
inline void extend_edges(Map& x_tilde, int H, int W) {
  const auto copy = [&](int y, int x, int from_y, int from_x) {
    std::memcpy(x_tilde.at(y, x), x_tilde.at(from_y, from_x), 3 * sizeof(int16_t));
  };
  for (int y = 0; y < H; ++y) copy(y, -1, y, 0), copy(y, W, y, W - 1);
  for (int x = -1; x <= W; ++x) copy(H, x, H - 1, x);
}

// mu (1/16) and scale index of every latent: [4GH][4GW][2N]
inline void hyper_synthesis(const Kernels& kn, const Model& m, const Map& z_hat, Map& out) {
  Map t, u;
  apply(kn, m.hd[0], z_hat, 1, Act::leaky, t);
  apply(kn, m.hd[1], t, 1, Act::leaky, u);
  apply(kn, m.hd[2], u, 1, Act::none, out);
}

// Analyse samples [H][W][3] (coding order), code the latents, return what the decoder will see.
inline std::vector<uint8_t> encode_lossy(const Kernels& kn, const Model& m, const uint8_t* x, int H, int W,
                                         Lossy& out) {
  const int gh = (H + 63) / 64, gw = (W + 63) / 64, n = m.profile.latent;
  Map in(64 * gh, 64 * gw, 3);
  for (int y = 0; y < in.h; ++y)
    for (int i = 0; i < in.w; ++i)
      for (int c = 0; c < 3; ++c)
        in.at(y, i)[c] = int16_t(x[(size_t(y < H ? y : H - 1) * W + (i < W ? i : W - 1)) * 3 + c] - 128);
  Map a = unshuffle(in, 4), b;
  apply(kn, m.ge[0], a, 1, Act::leaky, b);
  apply(kn, m.ge[1], b, 2, Act::leaky, a);
  apply(kn, m.ge[2], a, 1, Act::add_leaky, b);
  apply(kn, m.ge[3], b, 2, Act::leaky, a);
  Map y;
  apply(kn, m.ge[4], a, 1, Act::none, y);
  apply(kn, m.he[0], y, 1, Act::leaky, a);
  apply(kn, m.he[1], unshuffle(a, 2), 1, Act::leaky, b);
  Map z;
  apply(kn, m.he[2], unshuffle(b, 2), 1, Act::none, z);
  LaneEncoder lane;
  Map z_hat(gh, gw, z.c);
  for (int c = 0; c < z.c; ++c)
    for (int i = 0; i < gh; ++i)
      for (int j = 0; j < gw; ++j) {
        int s = (z.at(i, j)[c] - m.z_mean[c] + 8) >> 4;
        m.put_latent(lane, m.z_scale[c], s);
        z_hat.at(i, j)[c] = int16_t(clampi(16 * s + m.z_mean[c], -kActMax, kActMax));
      }
  Map g;
  hyper_synthesis(kn, m, z_hat, g);
  Map y_hat(y.h, y.w, n);
  for (int c = 0; c < n; ++c)
    for (int i = 0; i < y.h; ++i)
      for (int j = 0; j < y.w; ++j) {
        int mu = g.at(i, j)[c], s = (y.at(i, j)[c] - mu + 8) >> 4;
        m.put_latent(lane, clampi(g.at(i, j)[n + c], 0, 63), s);
        y_hat.at(i, j)[c] = int16_t(clampi(16 * s + mu, -kActMax, kActMax));
      }
  synthesise(kn, m, y_hat, out);
  std::vector<uint8_t> bytes;
  lane.finish(bytes);
  return bytes;
}

// False if the lane is damaged.
inline bool decode_lossy(const Kernels& kn, const Model& m, const uint8_t* data, size_t size, int H, int W,
                         Lossy& out) {
  const int gh = (H + 63) / 64, gw = (W + 63) / 64, n = m.profile.latent;
  LaneDecoder lane(data, size);
  Map z_hat(gh, gw, m.profile.hyper);
  for (int c = 0; c < z_hat.c; ++c)
    for (int i = 0; i < gh && !lane.bad(); ++i)
      for (int j = 0; j < gw; ++j)
        z_hat.at(i, j)[c] = int16_t(clampi(16 * m.take_latent(lane, m.z_scale[c]) + m.z_mean[c], -kActMax, kActMax));
  if (lane.bad()) return false;
  Map g;
  hyper_synthesis(kn, m, z_hat, g);
  Map y_hat(4 * gh, 4 * gw, n);
  for (int c = 0; c < n; ++c)
    for (int i = 0; i < y_hat.h && !lane.bad(); ++i)
      for (int j = 0; j < y_hat.w; ++j) {
        const int16_t* p = g.at(i, j);
        y_hat.at(i, j)[c] =
            int16_t(clampi(16 * m.take_latent(lane, clampi(p[n + c], 0, 63)) + p[c], -kActMax, kActMax));
      }
  if (!lane.finished()) return false;
  synthesise(kn, m, y_hat, out);
  return true;
}

}  // namespace dlpr
