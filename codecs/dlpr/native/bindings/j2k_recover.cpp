// Bindings of the search for the JPEG 2000 image behind pixels.
#include "bindings/arrays.hpp"
#include "j2k/waves.hpp"
#include <nanobind/stl/array.h>
#include <array>

namespace dlpr {

namespace {

using Rect = std::array<int, 4>;

WaveRect rect(const Rect& r) { return {r[0], r[1], r[2], r[3]}; }

SeenTile seen_tile(const Rect& tile, int levels, const Rect& seen) {
  const bool inside = tile[0] <= seen[0] && seen[0] <= seen[2] && seen[2] <= tile[2] && tile[1] <= seen[1] &&
                      seen[1] <= seen[3] && seen[3] <= tile[3];
  if (!inside || levels < 1 || levels > 10 || int64_t(tile[2] - tile[0]) * (tile[3] - tile[1]) > 1 << 24)
    throw nb::value_error("what is seen of a tile");
  return SeenTile(rect(tile), levels, rect(seen));
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
}
