#include <atomic>
#include <cstdlib>

#include "core/cpu.h"
#include "core/errors.h"
#include "kernels/tables.h"

namespace fastmnist {

extern const KernelTable kScalarKernels;
#if defined(FASTMNIST_HAVE_AVX2)
extern const KernelTable kAvx2Kernels;
#endif
#if defined(FASTMNIST_HAVE_AVX512_VNNI)
extern const KernelTable kAvx512VnniKernels;
#endif

#if defined(FASTMNIST_HAVE_AVX512_SPARSE)
extern const LinearKernel kAvx512SparseKernels[2];
#endif
#if defined(FASTMNIST_HAVE_AMX_INT8)
extern const TileUnit kAmxUnit;
extern const LinearKernel kAmxInt8Kernels[2];
#endif
#if defined(FASTMNIST_HAVE_AMX_SPARSE)
extern const LinearKernel kAmxSparseKernels[1];
#endif

#if defined(FASTMNIST_HAVE_AMX_INT8) && !defined(FASTMNIST_HAVE_AVX512_VNNI)
#error "amx_int8 stands on avx512_vnni: build it, too; see the table of kernels in CMakeLists.txt"
#endif

namespace {

struct Built {
  const char* name;
  const KernelTable* kernels;
};

#if defined(FASTMNIST_HAVE_AVX512_VNNI)
// Sparse weights need more than VNNI.
const KernelTable& avx512_vnni_kernels() {
  static const KernelTable kernels = [] {
    KernelTable table = kAvx512VnniKernels;
#if defined(FASTMNIST_HAVE_AVX512_SPARSE)
    if (missing_for("avx512_sparse").empty())
      for (const LinearKernel& kernel : kAvx512SparseKernels)
        table.linears[table.linear_count++] = kernel;
#endif
    return table;
  }();
  return kernels;
}
#endif

#if defined(FASTMNIST_HAVE_AMX_INT8)
// AMX has linear kernels only; the rest, and few rows, are AVX-512 VNNI's.
const KernelTable& amx_int8_kernels() {
  static const KernelTable kernels = [] {
    KernelTable table = avx512_vnni_kernels();
    table.name = "amx_int8";
    table.tiles = &kAmxUnit;
    for (const LinearKernel& kernel : kAmxInt8Kernels) table.linears[table.linear_count++] = kernel;
#if defined(FASTMNIST_HAVE_AMX_SPARSE)
    if (missing_for("avx512_sparse").empty())
      for (const LinearKernel& kernel : kAmxSparseKernels)
        table.linears[table.linear_count++] = kernel;
#endif
    return table;
  }();
  return kernels;
}
#endif

// Best first.
const Built (&built_sets())[4] {
  static const Built sets[] = {
#if defined(FASTMNIST_HAVE_AMX_INT8)
    {"amx_int8", &amx_int8_kernels()},
#else
    {"amx_int8", nullptr},
#endif
#if defined(FASTMNIST_HAVE_AVX512_VNNI)
    {"avx512_vnni", &avx512_vnni_kernels()},
#else
    {"avx512_vnni", nullptr},
#endif
#if defined(FASTMNIST_HAVE_AVX2)
    {"avx2", &kAvx2Kernels},
#else
    {"avx2", nullptr},
#endif
    {"scalar", &kScalarKernels},
  };
  return sets;
}

std::string refusal(const Built& built) {
  if (built.kernels == nullptr) return "not built for this processor family";
  return missing_for(built.name);
}

std::string names() {
  std::string text;
  for (const Built& built : built_sets())
    text += (text.empty() ? "" : ", ") + std::string(built.name);
  return text;
}

bool known(std::string_view name) {
  for (const Built& built : built_sets())
    if (name == built.name) return true;
  return false;
}

const char* cap() {
  const char* value = std::getenv("FASTMNIST_ISA");
  return value != nullptr && *value != '\0' ? value : nullptr;
}

std::atomic<const KernelTable*> g_active{nullptr};

}  // namespace

std::vector<Rung> ladder() {
  const char* capped = cap();
  bool below_cap = capped == nullptr;
  std::vector<Rung> rungs;
  for (const Built& built : built_sets()) {
    below_cap = below_cap || std::string_view(capped) == built.name;
    std::string why = refusal(built);
    if (why.empty() && !below_cap) why = "capped by FASTMNIST_ISA=" + std::string(capped);
    rungs.push_back({built.name, built.kernels, std::move(why)});
  }
  return rungs;
}

const KernelTable& active_kernels() {
  if (const KernelTable* active = g_active.load(std::memory_order_acquire)) return *active;
  if (const char* capped = cap(); capped != nullptr && !known(capped))
    invalid("FASTMNIST_ISA", "one of " + names(), "'" + std::string(capped) + "'");
  for (const Rung& rung : ladder()) {
    if (!rung.refusal.empty()) continue;
    g_active.store(rung.kernels, std::memory_order_release);
    return *rung.kernels;
  }
  return kScalarKernels;  // not reached: the last rung is never refused
}

int rung_of(const KernelTable& kernels) {
  int rung = 0;
  for (const Built& built : built_sets()) {
    if (built.kernels == &kernels) break;
    ++rung;
  }
  return rung;
}

std::string set_active_kernels(std::string_view name) {
  if (!known(name)) invalid("isa", "one of " + names(), "'" + std::string(name) + "'");
  const std::string before = active_kernels().name;
  for (const Built& built : built_sets()) {
    if (name != built.name) continue;
    if (const std::string why = refusal(built); !why.empty())
      invalid("isa", "an instruction set that this machine runs",
              "'" + std::string(name) + "' (" + why + ")");
    g_active.store(built.kernels, std::memory_order_release);
  }
  return before;
}

}  // namespace fastmnist
