// What the C functions cost beside the kernels, in one process: library FILE MODEL IMAGES
//
// IMAGES: an IDX file of pixels. Prints JSON, in nanoseconds: from opening the file to the first
// answer, and medians of calls with one row that take turns: fastmnist_predict_u8 (the public
// function), and run_network (what it calls) on the same packed weights.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <vector>

#include "fastmnist/fastmnist.h"
#include "files/model_file.h"
#include "files/saved_model.h"
#include "runtime/executor.h"
#include "runtime/loaded_model.h"

namespace {

using Clock = std::chrono::steady_clock;

double nanoseconds(Clock::duration time) {
  return std::chrono::duration<double, std::nano>(time).count();
}

template <typename Call>
double one_turn(const Call& call) {
  constexpr int kCalls = 200;
  const auto begin = Clock::now();
  for (int i = 0; i < kCalls; ++i) call(i);
  return nanoseconds(Clock::now() - begin) / kCalls;
}

double median(std::vector<double> times) {
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return std::fprintf(stderr, "usage: library FILE MODEL IMAGES\n"), 2;
  std::ifstream file(argv[3], std::ios::binary);
  file.seekg(16);
  const std::vector<char> bytes(std::istreambuf_iterator<char>(file), {});
  const auto* pixels = reinterpret_cast<const std::uint8_t*>(bytes.data());

  fastmnist_options options = {sizeof(fastmnist_options), FASTMNIST_PLAN_FIXED, nullptr};
  fastmnist_model* model = nullptr;
  float logits[1024];
  const auto began = Clock::now();
  if (fastmnist_load(argv[1], argv[2], &options, &model) != FASTMNIST_OK ||
      fastmnist_output_size(model, 0) > 1024 ||
      fastmnist_predict_u8(model, pixels, 1, logits) != FASTMNIST_OK)
    return std::fprintf(stderr, "%s\n", fastmnist_last_error()), 1;
  const double first = nanoseconds(Clock::now() - began);

  auto opened = fastmnist::ModelFile::open(argv[1]);
  auto saved = fastmnist::read_model(**opened, *(*opened)->find(argv[2]));
  auto loaded = fastmnist::LoadedModel::make(*std::move(saved), fastmnist::PlanBy::kFixed, "");
  auto view = fastmnist::view_network((*loaded)->packed());
  if (!view.ok()) return std::fprintf(stderr, "%s\n", view.status().text().c_str()), 1;
  fastmnist::ScratchPool scratch;
  const std::size_t size = fastmnist_input_size(model, 0);
  const auto row = [&](int i) { return pixels + static_cast<std::size_t>(i) * size; };
  std::vector<double> outer;
  std::vector<double> inner;
  for (int turn = 0; turn < 400; ++turn) {
    outer.push_back(one_turn([&](int i) { (void)fastmnist_predict_u8(model, row(i), 1, logits); }));
    inner.push_back(one_turn([&](int i) {
      (void)fastmnist::run_network(*view, {fastmnist::RowType::kPixels, row(i), 1}, logits,
                                   &scratch)
          .ok();
    }));
  }
  std::printf("{\"isa\": \"%s\", \"first_answer\": %.0f, \"public\": %.1f, \"kernels\": %.1f}\n",
              fastmnist_isa(), first, median(outer), median(inner));
  fastmnist_free(model);
}
