// Bindings of the search for the JPEG 2000 image behind pixels.
#include "bindings/arrays.hpp"
#include "j2k/combs.hpp"
#include "j2k/grid.hpp"
#include "j2k/synthesis.hpp"
#include "j2k/waves.hpp"
#include <nanobind/stl/array.h>
#include <nanobind/stl/vector.h>
#include <array>
#include <utility>
#include <vector>

namespace dlpr {

namespace {

using Rect = std::array<int, 4>;

WaveRect rect(const Rect& r) { return {r[0], r[1], r[2], r[3]}; }

SeenTile seen_tile(const Rect& tile, int levels, const Rect& seen) {
  const bool inside = 0 <= tile[0] && 0 <= tile[1] && tile[0] <= seen[0] && seen[0] <= seen[2] && seen[2] <= tile[2] &&
                      tile[1] <= seen[1] && seen[1] <= seen[3] && seen[3] <= tile[3];
  if (!inside || levels < 1 || levels > 10 || int64_t(tile[2] - tile[0]) * (tile[3] - tile[1]) > 1 << 24)
    throw nb::value_error("what is seen of a tile");
  return SeenTile(rect(tile), levels, rect(seen));
}

// Samples, as a decoder of whole numbers has them, of coefficients in the order of LL, then HL, LH, HH of each depth.
void whole_samples(const Rect& tile, int levels, const Rect& seen, const int32_t* c, int32_t* out) {
  std::vector<J2kRect> at(1, J2kRect{tile[0], tile[1], tile[2], tile[3]});
  auto up = [](int v) { return (v + 1) >> 1; };
  for (int d = 0; d < levels; ++d) {
    const J2kRect r = at.back();
    at.push_back({up(r.y0), up(r.x0), up(r.y1), up(r.x1)});
  }
  const int cols = tile[3] - tile[1];
  std::vector<int32_t> plane(size_t(tile[2] - tile[0]) * size_t(cols) + 1);
  auto fill = [&](int y0, int x0, int rows, int count) {
    for (int y = 0; y < rows; ++y, c += count)
      std::copy_n(c, count, plane.data() + size_t(y0 + y) * size_t(cols) + size_t(x0));
  };
  fill(0, 0, at[size_t(levels)].y1 - at[size_t(levels)].y0, at[size_t(levels)].x1 - at[size_t(levels)].x0);
  std::vector<const int32_t*> bands(size_t(levels) + 1, c);
  for (int d = 1; d <= levels; ++d) {
    const J2kRect &low = at[size_t(d)], &full = at[size_t(d) - 1];
    const size_t lows = size_t(low.y1 - low.y0) * size_t(low.x1 - low.x0);
    bands[size_t(d)] = c;
    c += size_t(full.y1 - full.y0) * size_t(full.x1 - full.x0) - lows;
  }
  Synthesis synthesis;
  for (int d = levels; d > 0; --d) {
    const J2kRect &low = at[size_t(d)], &full = at[size_t(d) - 1];
    const int rows = low.y1 - low.y0, lows = low.x1 - low.x0;
    const int high_rows = full.y1 - full.y0 - rows, highs = full.x1 - full.x0 - lows;
    c = bands[size_t(d)];
    fill(0, lows, rows, highs), fill(rows, 0, high_rows, lows), fill(rows, lows, high_rows, highs);
    synthesis.step(plane.data(), size_t(cols), low, full, Synthesis::kWhole);
    whole_numbers(plane.data(), size_t(cols), full, 5, false);
  }
  for (int y = seen[0]; y < seen[2]; ++y)
    out = std::copy_n(plane.data() + size_t(y - tile[0]) * size_t(cols) + size_t(seen[1] - tile[1]), seen[3] - seen[1],
                      out);
}

double nats(int kind, const float* u, size_t n, float step, float noise, float unit) {
  if (kind == 2) return comb_gain<Comb::kPoint>(u, n, step, noise, unit);
  if (kind == 1) return comb_gain<Comb::kHalf>(u, n, step, noise, unit);
  return comb_gain<Comb::kMiddle>(u, n, step, noise, unit);
}

void check(size_t have, size_t want) {
  if (have != want) throw nb::value_error("array of another size");
}

}  // namespace

}  // namespace dlpr

void bind_j2k_recover(nb::module_& m) {
  using namespace dlpr;
  m.def(
      "wave_forward",
      [](Rect tile, int levels, In<float> x) {
        SeenTile t = seen_tile(tile, levels, tile);
        check(x.size(), t.count());
        float* out;
        auto result = new_array<float>({t.wavelet.size()}, &out);
        nb::gil_scoped_release free_gil;
        t.wavelet.forward(x.data(), out);
        return result;
      },
      "tile"_a, "levels"_a, "samples"_a);
  m.def(
      "wave_seen",
      [](Rect tile, int levels, Rect seen, In<float> c) {
        SeenTile t = seen_tile(tile, levels, seen);
        check(c.size(), t.wavelet.size());
        float* out;
        auto result = new_array<float>({size_t(seen[2] - seen[0]), size_t(seen[3] - seen[1])}, &out);
        nb::gil_scoped_release free_gil;
        t.synthesise(c.data(), out);
        return result;
      },
      "tile"_a, "levels"_a, "seen"_a, "coefficients"_a);
  m.def(
      "wave_whole",
      [](Rect tile, int levels, Rect seen, In<int32_t> c) {
        SeenTile t = seen_tile(tile, levels, seen);
        check(c.size(), t.wavelet.size());
        int32_t* out;
        auto result = new_array<int32_t>({size_t(seen[2] - seen[0]), size_t(seen[3] - seen[1])}, &out);
        nb::gil_scoped_release free_gil;
        whole_samples(tile, levels, seen, c.data(), out);
        return result;
      },
      "tile"_a, "levels"_a, "seen"_a, "coefficients"_a);
  m.def(
      "wave_fit",
      [](Rect tile, int levels, Rect seen, In<float> y, In<float> weight, In<float> c, In<uint8_t> free,
         In<float> variance, In<float> energy, float noise, int steps) {
        SeenTile t = seen_tile(tile, levels, seen);
        check(y.size(), t.count()), check(weight.size(), t.count());
        for (size_t n : {c.size(), free.size(), variance.size(), energy.size()}) check(n, t.wavelet.size());
        float* out;
        auto result = new_array<float>({c.size()}, &out);
        std::copy_n(c.data(), c.size(), out);
        nb::gil_scoped_release free_gil;
        t.fit(y.data(), weight.data(), out, free.data(), variance.data(), energy.data(), noise, steps);
        return result;
      },
      "tile"_a, "levels"_a, "seen"_a, "samples"_a, "weights"_a, "start"_a, "free"_a, "variance"_a, "energy"_a,
      "noise"_a, "steps"_a);
  m.def(
      "wave_settle",
      [](Rect tile, int levels, Rect seen, In<float> y, In<float> weight, In<float> c, In<uint8_t> free,
         In<float> variance, In<float> energy, float noise, int steps, In<float> share, In<float> step,
         In<uint8_t> half, In<float> base, In<float> shares) {
        SeenTile t = seen_tile(tile, levels, seen);
        const size_t n = t.wavelet.size();
        check(y.size(), t.count()), check(weight.size(), t.count());
        for (size_t size : {c.size(), free.size(), variance.size(), energy.size(), share.size(), step.size(),
                            half.size(), base.size()})
          check(size, n);
        float* out;
        auto result = new_array<float>({n}, &out);
        std::copy_n(c.data(), n, out);
        std::vector<uint8_t> open(free.data(), free.data() + n);
        nb::gil_scoped_release free_gil;
        t.settle(y.data(), weight.data(), out, open.data(), variance.data(), energy.data(), noise, steps, share.data(),
                 step.data(), half.data(), base.data(), shares.data(), shares.size());
        return result;
      },
      "tile"_a, "levels"_a, "seen"_a, "samples"_a, "weights"_a, "start"_a, "free"_a, "variance"_a, "energy"_a,
      "noise"_a, "steps"_a, "share"_a, "step"_a, "half"_a, "base"_a, "shares"_a);
  m.def(
      "tile_grid",
      [](nb::ndarray<const uint8_t, nb::ndim<3>, nb::c_contig, nb::device::cpu> pixels) {
        const size_t h = pixels.shape(0), w = pixels.shape(1), c = pixels.shape(2);
        if ((c != 1 && c != 3) || h * w > size_t(1) << 24) throw nb::value_error("pixels");
        TileGrid grid;
        {
          nb::gil_scoped_release free_gil;
          std::vector<float> plane(h * w);
          const uint8_t* p = pixels.data();
          for (size_t i = 0; i < h * w; ++i)
            plane[i] = c == 1 ? p[i] : 0.299f * p[3 * i] + 0.587f * p[3 * i + 1] + 0.114f * p[3 * i + 2];
          for (float& v : plane) v -= 128;
          grid.find(plane.data(), int(h), int(w));
        }
        return nb::make_tuple(std::vector<float>(grid.strengths, grid.strengths + 4), grid.rows, grid.columns);
      },
      "pixels"_a);
  m.def(
      "comb_cells",
      [](nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu> u, In<int32_t> rows, In<int32_t> columns,
         In<float> steps, In<uint8_t> kinds, float noise, float unit) {
        const size_t h = u.shape(0), w = u.shape(1), n = steps.size();
        check(kinds.size(), n);
        for (const auto& [edges, size] : {std::pair{&rows, h}, std::pair{&columns, w}}) {
          int32_t before = 0;
          for (size_t i = 0; i < edges->size(); ++i) {
            const int32_t edge = edges->data()[i];
            if (edge < before || size_t(edge) > size) throw nb::value_error("cells");
            before = edge;
          }
          if (edges->size() == 0) throw nb::value_error("cells");
        }
        const size_t down = rows.size() - 1, across = columns.size() - 1;
        double* out;
        auto result = new_array<double>({down, across, n}, &out);
        nb::gil_scoped_release free_gil;
        std::vector<float> here;
        for (size_t i = 0; i < down; ++i)
          for (size_t k = 0; k < across; ++k, out += n) {
            here.clear();
            for (int y = rows.data()[i]; y < rows.data()[i + 1]; ++y)
              for (int x = columns.data()[k]; x < columns.data()[k + 1]; ++x)
                if (const float v = u.data()[size_t(y) * w + size_t(x)]; v > 4 * noise) here.push_back(v);
            for (size_t j = 0; j < n; ++j)
              out[j] = nats(kinds.data()[j], here.data(), here.size(), steps.data()[j], noise, unit);
          }
        return result;
      },
      "magnitudes"_a, "rows"_a, "columns"_a, "steps"_a, "kinds"_a, "noise"_a, "unit"_a);
  m.def(
      "comb_gains",
      [](In<float> u, In<float> steps, In<uint8_t> kinds, float noise, float unit) {
        check(kinds.size(), steps.size());
        double* out;
        auto result = new_array<double>({steps.size()}, &out);
        nb::gil_scoped_release free_gil;
        for (size_t i = 0; i < steps.size(); ++i)
          out[i] = nats(kinds.data()[i], u.data(), u.size(), steps.data()[i], noise, unit);
        return result;
      },
      "magnitudes"_a, "steps"_a, "kinds"_a, "noise"_a, "unit"_a);
}
