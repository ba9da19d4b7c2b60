// Steps of mode coded that a coder on another device leaves to this one: the linear stage's solution, entropy coding.
#include "bindings/networks.hpp"

namespace dlpr {
namespace {

constexpr size_t kGram = size_t(kMomentCols) * kMomentCols;

template <class T>
void need(bool good, const T& what) {
  if (!good) throw nb::value_error(what);
}

// Columns of moments and predictors are here in the order of the taps: 66 of them by position, then the pixel's
// channels before, the constant, two unused. Moments on the host have the taps in the order of memory.
inline int own_column(int column) { return column < kTapValues ? kFeatPlace.at[kFeatTaps + column] : column; }
inline int tap_column(int c, int i) { return i < c ? kTapValues + i : (i - c) / 3 * 3 + kTapChannel[c][(i - c) % 3]; }

// Predictors, the constant included, for each of the four parities.
void spread(const LinearStage& ls, int32_t* out) {
  for (int parity = 0; parity < 4; ++parity)
    for (int c = 0; c < 3; ++c, out += kMomentCols) {
      const Predictor& q = ls.p[ls.phase(parity >> 1, parity & 1)][c];
      for (int i = 0; i < c + q.count; ++i) out[tap_column(c, i)] = q.coef[i];
      out[kBiasCol] = q.bias8 * (1 << (ls.frac - 3));
    }
}

// moments int64 [b, 4, 72, 72] (upper triangles), pixels int64 [4] of each parity, prices float64 [b]
// -> (linear parts, coefficients int32 [b, 4, 3, 72]).
nb::tuple fit_linear_batch(const ModelHolder& h, In<int64_t> moments, In<int64_t> pixels, In<double> prices, int frac,
                           int max_taps, int max_classes, int context, int channels, int threads) {
  const size_t b = prices.size();
  need(moments.ndim() == 4 && moments.shape(0) == b && moments.size() == b * kMaxClasses * kGram,
       "moments [b,4,72,72]");
  need(pixels.size() == kMaxClasses, "pixels [4]");
  need(frac >= 4 && frac <= 12 && max_taps >= 0 && max_taps <= kTapValues && max_classes >= 1 && context >= 2 &&
           context <= 3 && (channels == 1 || channels == 3),
       "option out of range");
  int32_t* coefficients;
  auto out = new_array<int32_t>({b, size_t(kMaxClasses), 3, size_t(kMomentCols)}, &coefficients);
  std::vector<std::vector<uint8_t>> parts(b);
  {
    nb::gil_scoped_release free_gil;
    parallel_for(int(b), threads, [&](int i) {
      Moments m;
      for (int parity = 0; parity < kMaxClasses; ++parity) {
        const int64_t* from = moments.data() + (size_t(i) * kMaxClasses + parity) * kGram;
        for (int r = 0; r < kMomentCols; ++r)
          for (int q = r; q < kMomentCols; ++q) {
            const auto [low, high] = std::minmax({own_column(r), own_column(q)});
            m.of(parity)[low * kMomentCols + high] = from[r * kMomentCols + q];
          }
      }
      std::copy_n(pixels.data(), kMaxClasses, m.n);
      FitOptions o;
      o.coef_bits = prices.data()[i], o.max_taps = max_taps, o.max_classes = max_classes, o.context = context;
      const LinearStage ls = fit_linear(m, frac, o);
      parts[i] = write_linear(*h.model, ls, channels);
      spread(ls, coefficients + size_t(i) * kMaxClasses * 3 * kMomentCols);
    });
  }
  nb::list bytes;
  for (const auto& p : parts) bytes.append(nb::bytes(reinterpret_cast<const char*>(p.data()), p.size()));
  return nb::make_tuple(bytes, out);
}

// The same coefficients of a linear part, int32 [4, 3, 72], and its frac; None if it is damaged.
nb::object read_linear_part(const ModelHolder& h, nb::bytes part, int channels) {
  LinearStage ls;
  need(channels == 1 || channels == 3, "channels");
  if (!read_linear(*h.model, reinterpret_cast<const uint8_t*>(part.c_str()), part.size(), channels, ls))
    return nb::none();
  int32_t* coefficients;
  auto out = new_array<int32_t>({size_t(kMaxClasses), 3, size_t(kMomentCols)}, &coefficients);
  spread(ls, coefficients);
  return nb::make_tuple(out, ls.frac);
}

// Counts of |symbol - centre| int64 [b, 256] -> the interval m of each chunk.
std::vector<int> choose_intervals(In<int64_t> deviations) {
  need(deviations.ndim() == 2 && deviations.shape(1) == 256, "deviations [b,256]");
  std::vector<int> out;
  for (size_t i = 0; i < deviations.shape(0); ++i) {
    const int64_t* d = deviations.data() + 256 * i;
    out.push_back(choose_interval(std::vector<int64_t>(d, d + 256)));
  }
  return out;
}

// Symbols of lanes, one lane after the other: uint32 frequency << 16 | start; 0 is none. ends int64 [lanes].
void need_lanes(const In<uint32_t>& symbols, const In<int64_t>& ends) {
  int64_t at = 0;
  for (size_t i = 0; i < ends.size(); at = ends.data()[i++]) need(ends.data()[i] >= at, "ends must grow");
  need(at == int64_t(symbols.size()), "ends must cover the symbols");
}

nb::tuple encode_lanes(In<uint32_t> symbols, In<int64_t> ends, int threads) {
  need_lanes(symbols, ends);
  std::vector<std::vector<uint8_t>> lanes(ends.size());
  {
    nb::gil_scoped_release free_gil;
    parallel_for(int(lanes.size()), threads, [&](int i) {
      LaneEncoder lane;
      for (int64_t k = i ? ends.data()[i - 1] : 0; k < ends.data()[i]; ++k)
        if (const uint32_t s = symbols.data()[k]) lane.put(s & 0xFFFF, s >> 16);
      lane.finish(lanes[i]);
    });
  }
  std::vector<uint8_t> all;
  std::vector<uint32_t> sizes;
  for (const auto& lane : lanes)
    sizes.push_back(uint32_t(lane.size())), all.insert(all.end(), lane.begin(), lane.end());
  return nb::make_tuple(nb::bytes(reinterpret_cast<const char*>(all.data()), all.size()), sizes);
}

// Whether each lane holds these symbols and nothing else: what a decoder that knew them would find.
std::vector<bool> check_lanes(In<uint32_t> symbols, In<int64_t> ends, nb::list lanes, int threads) {
  need_lanes(symbols, ends);
  need(lanes.size() == ends.size(), "as many lanes as ends");
  std::vector<nb::bytes> held;
  std::vector<std::pair<const uint8_t*, size_t>> views;
  for (nb::handle lane : lanes) {
    held.push_back(nb::cast<nb::bytes>(lane));
    views.push_back({reinterpret_cast<const uint8_t*>(held.back().c_str()), held.back().size()});
  }
  std::vector<char> good(ends.size(), 0);
  {
    nb::gil_scoped_release free_gil;
    parallel_for(int(good.size()), threads, [&](int i) {
      LaneDecoder lane(views[i].first, views[i].second);
      for (int64_t k = i ? ends.data()[i - 1] : 0; k < ends.data()[i] && !lane.bad(); ++k)
        if (const uint32_t s = symbols.data()[k]) {
          if (lane.slot() - (s & 0xFFFF) >= (s >> 16)) return;  // below the start wraps around
          lane.take(s & 0xFFFF, s >> 16);
        }
      good[i] = lane.finished();
    });
  }
  return std::vector<bool>(good.begin(), good.end());
}

// Latents: scale indices and symbols int32 [b, n].
nb::list encode_latents(const ModelHolder& h, In<int32_t> scales, In<int32_t> symbols, int threads) {
  need(scales.ndim() == 2 && symbols.ndim() == 2 && scales.shape(0) == symbols.shape(0) &&
           scales.shape(1) == symbols.shape(1),
       "scales and symbols [b,n]");
  for (size_t i = 0; i < scales.size(); ++i)
    need(scales.data()[i] >= 0 && scales.data()[i] < 64 && symbols.data()[i] >= -32768 && symbols.data()[i] < 32768,
         "a scale or symbol out of range");
  const size_t n = scales.shape(1);
  std::vector<std::vector<uint8_t>> parts(scales.shape(0));
  {
    nb::gil_scoped_release free_gil;
    parallel_for(int(parts.size()), threads, [&](int i) {
      LaneEncoder lane;
      for (size_t k = i * n; k < (i + 1) * n; ++k) h.model->put_latent(lane, scales.data()[k], symbols.data()[k]);
      lane.finish(parts[i]);
    });
  }
  nb::list out;
  for (const auto& p : parts) out.append(nb::bytes(reinterpret_cast<const char*>(p.data()), p.size()));
  return out;
}

// The first n symbols of each part; with `whole` there must be no more. -> (int32 [b, n], good [b]).
nb::tuple decode_latents(const ModelHolder& h, nb::list parts, In<int32_t> scales, bool whole, int threads) {
  need(scales.ndim() == 2 && scales.shape(0) == parts.size(), "scales [b,n]");
  for (size_t i = 0; i < scales.size(); ++i)
    need(scales.data()[i] >= 0 && scales.data()[i] < 64, "a scale out of range");
  const size_t b = scales.shape(0), n = scales.shape(1);
  std::vector<nb::bytes> held;
  for (nb::handle part : parts) held.push_back(nb::cast<nb::bytes>(part));
  std::vector<std::pair<const uint8_t*, size_t>> views;
  for (const auto& part : held) views.push_back({reinterpret_cast<const uint8_t*>(part.c_str()), part.size()});
  int32_t* symbols;
  auto out = new_array<int32_t>({b, n}, &symbols);
  std::vector<char> good(b, 0);
  {
    nb::gil_scoped_release free_gil;
    parallel_for(int(b), threads, [&](int i) {
      LaneDecoder lane(views[i].first, views[i].second);
      for (size_t k = i * n; k < (i + 1) * n && !lane.bad(); ++k)
        symbols[k] = h.model->take_latent(lane, scales.data()[k]);
      good[i] = whole ? lane.finished() : !lane.bad();
    });
  }
  return nb::make_tuple(out, std::vector<bool>(good.begin(), good.end()));
}

}  // namespace
}  // namespace dlpr

void bind_networks_steps(nb::module_& m) {
  using namespace dlpr;
  m.def("fit_linear", &fit_linear_batch, "model"_a, "moments"_a, "pixels"_a, "prices"_a, "frac"_a, "max_taps"_a,
        "max_classes"_a, "context"_a, "channels"_a, "threads"_a);
  m.def("read_linear", &read_linear_part, "model"_a, "part"_a, "channels"_a);
  m.def("choose_intervals", &choose_intervals, "deviations"_a);
  m.def("encode_lanes", &encode_lanes, "symbols"_a, "ends"_a, "threads"_a);
  m.def("check_lanes", &check_lanes, "symbols"_a, "ends"_a, "lanes"_a, "threads"_a);
  m.def("encode_latents", &encode_latents, "model"_a, "scales"_a, "symbols"_a, "threads"_a);
  m.def("decode_latents", &decode_latents, "model"_a, "parts"_a, "scales"_a, "whole"_a, "threads"_a);
}
