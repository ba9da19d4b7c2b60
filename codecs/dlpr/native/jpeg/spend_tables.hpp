// Coarser steps where an error is allowed: how much of it each frequency gets (docs/decisions/0012).
#pragma once
#include "jpeg/spend_price.hpp"

namespace dlpr {

constexpr double kSpendSteps = 3;       // times tau + 1/2: coarsest new step. One coefficient moves no sample by much
constexpr double kSpendEnergy = 0.128;  // times (tau + 1/2)^2: mean squared error of samples that new steps may make
constexpr double kSpendChroma = 4;      // chroma's errors add to luma's in red and blue: weighed more
constexpr int kSpendTableBits = 480;    // that a table of its own must save

inline int nearest_multiple(int v, int step) {  // ties towards 0
  return v < 0 ? -((-2 * v + step - 1) / (2 * step)) : (2 * v + step - 1) / (2 * step);
}

// Entropy, in bits, of coefficients v of one frequency, `most` at most, in new steps, and their squared error; DC as
// differences.
inline double coarser(const std::vector<int>& v, int most, int step, int fresh, int columns, bool dc, double& error) {
  std::vector<uint32_t> count(size_t(4 * most + 1), 0);  // no step is finer than before
  int64_t squares = 0, bits = 0;
  int before = 0;
  for (size_t i = 0; i < v.size(); ++i) {
    const int a = nearest_multiple(v[i] * step, fresh), e = v[i] * step - a * fresh;
    squares += int64_t(e) * e;
    ++count[size_t(2 * most + a - (dc && i % size_t(columns) ? before : 0))];
    before = a;
  }
  const int64_t all = log2_fixed(uint32_t(v.size()));
  for (uint32_t n : count)
    if (n) bits += n * (all - log2_fixed(n));
  error = double(squares);
  return double(bits) / 65536;
}

// New tables in `g`. Least bits at the energy allowed, over the whole image (Lagrange): big steps stay as they are.
inline void coarser_tables(const JpegFields& f, const std::vector<int16_t>* q, int tau, JpegFields& g) {
  struct Choice {
    int step;
    double bits, error;
  };
  std::vector<Choice> choices[3][64];
  const double bound = tau + 0.5;
  const int top = int(std::min(kSpendSteps * bound, 255.0));
  double weight[3];
  for (int c = 0; c < f.components; ++c) {
    // of an error in the component: mean over red, green, blue
    const double ycc[3] = {1, kSpendChroma * (1.772 * 1.772 + 0.344 * 0.344) / 3,
                           kSpendChroma * (1.402 * 1.402 + 0.714 * 0.714) / 3};
    const int rows = f.end_row(c) - f.first_row(c), columns = f.end_col(c) - f.first_col(c);
    weight[c] = (f.transform ? ycc[c] : 1.0 / f.components) / (64.0 * rows * columns);
    for (int k = 0; k < 64; ++k) {
      const int step = f.tables[c][k];
      std::vector<int> v;
      int most = 0;
      for (int y = f.first_row(c); y < f.end_row(c); ++y)
        for (int x = f.first_col(c); x < f.end_col(c); ++x) {
          v.push_back(SpendPrice::block(f, q, c, y, x)[k]);
          most = std::max(most, std::abs(v.back()));
        }
      if (!most) continue;
      for (int fresh = step; fresh <= std::max(top, step); fresh += std::max(1, fresh / 16)) {
        Choice choice = {fresh, 0, 0};
        choice.bits = coarser(v, most, step, fresh, columns, k == 0, choice.error);
        choices[c][k].push_back(choice);
      }
    }
  }
  bool kept[3] = {};
  // The choice at a price of errors: its energy; the tables into g.
  auto choose = [&](double price) {
    double energy = 0;
    for (int c = 0; c < f.components; ++c) {
      std::copy_n(f.tables[c], 64, g.tables[c]);
      double saved = 0, made = 0;
      for (int k = 0; k < 64; ++k) {
        const Choice* best = nullptr;
        double least = 0;
        for (const Choice& o : choices[c][k]) {
          const double cost = o.bits + price * weight[c] * o.error;
          if (!best || cost < least) best = &o, least = cost;
        }
        if (!best) continue;
        g.tables[c][k] = uint16_t(best->step);
        saved += choices[c][k][0].bits - best->bits, made += weight[c] * best->error;
      }
      kept[c] = saved < kSpendTableBits;
      energy += made;
    }
    return energy;
  };
  double low = 1e-2, high = 1e9;
  for (int i = 0; i < 40; ++i) {
    const double middle = std::sqrt(low * high);
    (choose(middle) > kSpendEnergy * bound * bound ? low : high) = middle;
  }
  choose(high);
  for (int c = 0; c < f.components; ++c)
    if (kept[c]) std::copy_n(f.tables[c], 64, g.tables[c]);
}

}  // namespace dlpr
