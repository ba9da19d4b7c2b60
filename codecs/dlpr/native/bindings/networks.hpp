// Bindings of the networks: models, batches of chunks.
#pragma once
#include "bindings/arrays.hpp"
#include "common/prediction_cost.hpp"
#include "networks/batch.hpp"
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>
#include <map>

namespace dlpr {

// A model and the Python arrays it points into.
struct ModelHolder {
  nb::dict tensors;
  std::unique_ptr<Model> model;
  const Kernels* kn;
  ModelHolder(nb::dict profile, nb::dict tensors_, const std::string& simd) : tensors(tensors_) {
    kn = simd.empty() ? &kernels() : kernels_named(simd.c_str());
    if (!kn) throw nb::value_error("this machine cannot run the named instruction set");
    Profile p;
    p.hidden = nb::cast<int>(profile["hidden"]), p.blocks = nb::cast<int>(profile["blocks"]),
    p.bank = nb::cast<int>(profile["bank"]);
    p.latent = nb::cast<int>(profile["latent"]), p.hyper = nb::cast<int>(profile["hyper"]),
    p.tau_classes = nb::cast<int>(profile["tau_classes"]);
    for (int i = 0; i < 4; ++i) p.widths[i] = nb::cast<int>(profile["widths"][i]);
    std::vector<nb::ndarray<nb::ro, nb::c_contig, nb::device::cpu>> keep;
    auto source = [&](const std::string& name) {
      if (!tensors.contains(name.c_str())) throw nb::value_error(("missing tensor " + name).c_str());
      auto a = nb::cast<nb::ndarray<nb::ro, nb::c_contig, nb::device::cpu>>(tensors[name.c_str()]);
      Tensor t;
      t.data = a.data();
      for (size_t i = 0; i < a.ndim(); ++i) t.shape.push_back(int64_t(a.shape(i)));
      return t;
    };
    model = std::make_unique<Model>(source, p);
  }
};

// chunks: list of (planes uint8 [H,W,C], options dict) -> list of dicts with the parts of each stream.
inline nb::list encode_batch(const ModelHolder& h, nb::list chunks, int threads) {
  std::vector<EncodeJob> jobs(chunks.size());
  std::vector<In<uint8_t>> keep;
  for (size_t i = 0; i < jobs.size(); ++i) {
    nb::tuple t = nb::cast<nb::tuple>(chunks[i]);
    keep.push_back(nb::cast<In<uint8_t>>(t[0]));
    nb::dict d = nb::cast<nb::dict>(t[1]);
    auto num = [&](const char* k) { return nb::cast<int>(d[k]); };
    EncodeJob& j = jobs[i];
    const auto& a = keep.back();
    if (a.ndim() != 3 || (a.shape(2) != 1 && a.shape(2) != 3) || !a.shape(0) || !a.shape(1))
      throw nb::value_error("planes must be [H,W,1] or [H,W,3]");
    j.x = a.data(), j.o.H = int(a.shape(0)), j.o.W = int(a.shape(1)), j.o.channels = int(a.shape(2));
    j.o.tau = num("tau"), j.o.lossy = num("lossy"), j.o.anchor_lossy = num("anchor_lossy"),
    j.o.patch_exp = num("patch_exp"), j.o.lane_exp = num("lane_exp");
    j.frac = num("frac"), j.only_bank = num("bank"), j.coef_bits = nb::cast<double>(d["coef_bits"]),
    j.no_linear_taps = num("max_taps") == 0, j.search = num("search");
    j.max_classes = num("max_classes"), j.context = num("context");
    if (j.o.patch_exp < 5 || j.o.patch_exp > 8 || j.o.lane_exp < 0 || j.o.lane_exp > 5 || j.o.tau < 0 ||
        j.o.tau > 255 || j.frac < 4 || j.frac > 12 || j.only_bank >= h.model->profile.bank || j.max_classes < 1 ||
        j.context < 2 || j.context > 3 || (j.o.anchor_lossy && !j.o.lossy))
      throw nb::value_error("encoder option out of range");
  }
  {
    nb::gil_scoped_release free_gil;
    const int outer = std::min<int>(threads, int(jobs.size())), inner = outer ? std::max(1, threads / outer) : 1;
    parallel_for(int(jobs.size()), outer, [&](int i) { encode_chunk(*h.kn, *h.model, jobs[i], inner); });
  }
  nb::list out;
  for (auto& j : jobs) {
    nb::dict d;
    auto bytes = [](const std::vector<uint8_t>& v) {
      return nb::bytes(reinterpret_cast<const char*>(v.data()), v.size());
    };
    d["bank_entry"] = j.o.bank, d["interval"] = j.o.m,
    d["base"] = nb::make_tuple(int(j.o.base[0]), int(j.o.base[1]), int(j.o.base[2]));
    d["lossy_part"] = bytes(j.lossy), d["linear_part"] = bytes(j.linear), d["lanes"] = bytes(j.lanes),
    d["lane_sizes"] = j.lane_sizes;
    out.append(d);
  }
  return out;
}

// chunks: list of dicts (H, W, channels, tau, lossy, anchor_lossy, patch_exp, lane_exp, bank_entry, interval, base,
// lossy_part, linear_part, lanes, lane_sizes)
// -> list of (planes uint8 [H,W,C], "") or (None, error text).
inline nb::list decode_batch(const ModelHolder& h, nb::list chunks, int threads) {
  std::vector<DecodeJob> jobs(chunks.size());
  std::vector<nb::object> keep;
  std::vector<const char*> errors(chunks.size(), "");
  for (size_t i = 0; i < jobs.size(); ++i) {
    nb::dict d = nb::cast<nb::dict>(chunks[i]);
    auto num = [&](const char* k) { return nb::cast<int>(d[k]); };
    DecodeJob& j = jobs[i];
    j.o.H = num("H"), j.o.W = num("W"), j.o.channels = num("channels"), j.o.tau = num("tau"), j.o.lossy = num("lossy"),
    j.o.anchor_lossy = num("anchor_lossy");
    j.o.patch_exp = num("patch_exp"), j.o.lane_exp = num("lane_exp"), j.o.bank = num("bank_entry"),
    j.o.m = num("interval");
    for (int c = 0; c < 3; ++c) j.o.base[c] = uint8_t(nb::cast<int>(d["base"][c]));
    auto view = [&](const char* k, const uint8_t*& p, size_t& n) {
      nb::bytes b = nb::cast<nb::bytes>(d[k]);
      keep.push_back(b), p = reinterpret_cast<const uint8_t*>(b.c_str()), n = b.size();
    };
    size_t lanes_size = 0, sum = 0;
    view("lossy_part", j.lossy, j.lossy_size), view("linear_part", j.linear, j.linear_size),
        view("lanes", j.lanes, lanes_size);
    j.lane_sizes = nb::cast<std::vector<uint32_t>>(d["lane_sizes"]);
    for (uint32_t s : j.lane_sizes) sum += s;
    PatchGrid grid(j.o);
    if (j.o.H < 1 || j.o.W < 1 || int64_t(j.o.H) * j.o.W > (1 << 26) || (j.o.channels != 1 && j.o.channels != 3) ||
        j.o.patch_exp < 5 || j.o.patch_exp > 8 || j.o.lane_exp < 0 || j.o.lane_exp > 5 || j.o.bank < 0 ||
        j.o.bank >= h.model->profile.bank || j.o.m < 1 || j.o.m > 255 || j.o.tau < 0 || j.o.tau > 255 ||
        (j.o.anchor_lossy && !j.o.lossy) || sum != lanes_size ||
        j.lane_sizes.size() != size_t(grid.count()) << j.o.lane_exp)
      throw nb::value_error("chunk field out of range");
  }
  {
    nb::gil_scoped_release free_gil;
    decode_jobs(*h.kn, *h.model, jobs, threads, errors);
  }
  nb::list out;
  for (size_t i = 0; i < jobs.size(); ++i) {
    const ChunkOptions& o = jobs[i].o;
    nb::object planes = nb::none();
    if (!*errors[i]) {
      uint8_t* p = jobs[i].out.release();
      nb::capsule owner(p, [](void* q) noexcept { delete[] static_cast<uint8_t*>(q); });
      planes = nb::cast(nb::ndarray<nb::numpy, uint8_t>(p, {size_t(o.H), size_t(o.W), size_t(o.channels)}, owner));
    }
    out.append(nb::make_tuple(planes, errors[i]));
  }
  return out;
}

// x~ of a chunk, uint8 [H,W,3] in coding order, or None if the lossy part is damaged.
inline nb::object decode_lossy_layer(const ModelHolder& h, int H, int W, nb::bytes part) {
  if (H < 1 || W < 1 || int64_t(H) * W > (1 << 26)) throw nb::value_error("chunk field out of range");
  Lossy lossy;
  bool good;
  {
    const uint8_t* data = reinterpret_cast<const uint8_t*>(part.c_str());
    size_t size = part.size();
    nb::gil_scoped_release free_gil;
    good = decode_lossy(*h.kn, *h.model, data, size, H, W, lossy);
  }
  if (!good) return nb::none();
  uint8_t* p;  // only now: a damaged part that claims a large chunk costs nothing
  auto a = new_array<uint8_t>({size_t(H), size_t(W), 3}, &p);
  {
    nb::gil_scoped_release free_gil;
    for (int y = 0; y < H; ++y)
      for (int x = 0; x < W; ++x)
        for (int c = 0; c < 3; ++c) p[(size_t(y) * W + x) * 3 + c] = uint8_t(lossy.x_tilde.at(y, x)[c]);
  }
  return nb::cast(a);
}

inline double prediction_bits_of(nb::ndarray<const uint8_t, nb::ndim<3>, nb::c_contig, nb::device::cpu> x, int tau) {
  if (tau < 0 || tau > 255) throw nb::value_error("tau");
  nb::gil_scoped_release free_gil;
  return prediction_bits(x.data(), int(x.shape(0)), int(x.shape(1)), int(x.shape(2)), tau);
}

}  // namespace dlpr

inline void bind_networks(nb::module_& m) {
  using namespace dlpr;
  nb::class_<ModelHolder>(m, "Model")
      .def(nb::init<nb::dict, nb::dict, const std::string&>(), "profile"_a, "tensors"_a, "simd"_a = "")
      .def_prop_ro("simd", [](const ModelHolder& h) { return std::string(h.kn->name); });
  m.def("encode_batch", &encode_batch, "model"_a, "chunks"_a, "threads"_a);
  m.def("decode_batch", &dlpr::decode_batch, "model"_a, "chunks"_a, "threads"_a);
  m.def("decode_lossy_layer", &decode_lossy_layer, "model"_a, "height"_a, "width"_a, "lossy_part"_a);
  m.def("simd_available", [] {
    std::vector<std::string> names;
    for (const char* n : {"scalar", "avx2", "avx512"})
      if (kernels_named(n)) names.push_back(n);
    return names;
  });
  m.def("prediction_bits", &prediction_bits_of, "planes"_a, "tau"_a);
}
