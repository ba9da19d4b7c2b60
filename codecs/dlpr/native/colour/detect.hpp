// Which lattice of colours do pixels lie on? Tries the matrices with every rounding on distinct colours of the image.
#pragma once
#include "colour/lattice.hpp"
#include <array>
#include <vector>

namespace dlpr {

struct FoundLattice {
  int matrix = 0;  // number of the matrix, 0 = none
  Lattice lattice;
  double share = 0;  // of the distinct colours looked at
};

// Distinct colours of pixels that differ from the pixel to the left, no sample 0 or 255, not grey; at most `most`.
// Flat areas would count one colour thousands of times.
inline std::vector<std::array<uint8_t, 3>> distinct_colours(const uint8_t* x, int h, int w, size_t most) {
  std::vector<std::array<uint8_t, 3>> out;
  std::vector<uint32_t> seen(4096, UINT32_MAX);
  const size_t n = size_t(h) * w;
  size_t step = std::max<size_t>(1, n / (4 * most));
  while (step > 1 && (w % step == 0 || step % 2 == 0)) --step;
  for (size_t start = 0; start < step && start < 3; ++start)
    for (size_t i = start; i < n && out.size() < most; i += step) {
      const uint8_t* p = x + 3 * i;
      if (p[0] == p[1] && p[1] == p[2]) continue;
      if (p[0] == 0 || p[1] == 0 || p[2] == 0 || p[0] == 255 || p[1] == 255 || p[2] == 255) continue;
      const uint32_t key = uint32_t(p[0]) << 16 | uint32_t(p[1]) << 8 | p[2];
      uint32_t& slot = seen[(key * 2654435761u) >> 20];
      if (slot == key) continue;
      slot = key;
      out.push_back({p[0], p[1], p[2]});
    }
  return out;
}

// The lattice that most colours lie on; matrix 0 if none holds 90 % of them. Chance gives a quarter.
inline FoundLattice find_lattice(const uint8_t* x, int h, int w) {
  FoundLattice best;
  const auto colours = distinct_colours(x, h, w, 2048);
  if (colours.size() < 24) {  // grey, or almost flat: nothing speaks against the usual one
    best.matrix = 1, best.lattice = kMatrixTable[0];
    size_t hits = 0;
    int t[3];
    const LatticeInverse inverse(best.lattice);
    for (const auto& c : colours) hits += inverse.triple(c.data(), t);
    best.share = colours.empty() ? 1 : double(hits) / double(colours.size());
    if (best.share < 0.9) best = FoundLattice();
    return best;
  }
  auto share = [&](const LatticeInverse& inverse, size_t most, size_t first_look) {
    size_t hits = 0, n = 0;
    int t[3];
    const size_t step = std::max<size_t>(1, colours.size() / most);
    for (size_t i = 0; i < colours.size() && n < most; i += step) {
      ++n, hits += inverse.triple(colours[i].data(), t);
      if (n == first_look && 3 * hits < 2 * n) return 0.0;
    }
    return double(hits) / double(n);
  };
  for (int m = 0; m < kMatrices; ++m)
    for (int products = 0; products < 3; ++products)
      for (int rounding = 0; rounding < 4; ++rounding) {
        if ((products == int(Products::kGreenOfRounded)) != (m == kMatrices - 1)) continue;
        if (products == int(Products::kGreenOfRounded) && rounding > 1) continue;
        Lattice l = kMatrixTable[m];
        l.products = Products(products), l.rounding = Rounding(rounding);
        const LatticeInverse inverse(l);
        if (!inverse.good() || share(inverse, 64, 16) < 0.75) continue;
        const double s = share(inverse, 2048, 256);
        if (s > best.share) best.share = s, best.matrix = m + 1, best.lattice = l;
      }
  if (best.share < 0.9) best = FoundLattice();
  return best;
}

}  // namespace dlpr
