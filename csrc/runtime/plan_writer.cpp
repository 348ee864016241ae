#include "runtime/plan_writer.h"

#include <array>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "kernels/tables.h"
#include "runtime/candidates.h"
#include "runtime/plan.h"

namespace fastmnist {
namespace {

Status check_choices(const KernelTable& kernels, const NetworkView& network,
                     std::span<const int> choices) {
  if (static_cast<std::int64_t>(choices.size()) != network.layers() * kRowClasses)
    return Status::invalid("choices", std::to_string(kRowClasses) + " kernels per layer",
                           std::to_string(choices.size()));
  for (const int choice : choices)
    if (choice < 0 || choice >= kernels.linear_count)
      return Status::invalid("choices", "indexes of the instruction set's kernels",
                             std::to_string(choice));
  return {};
}

NetworkHeader& header_of(std::span<std::byte> buffer) {
  return *reinterpret_cast<NetworkHeader*>(buffer.data());
}

LayerRecord* records_of(std::span<std::byte> buffer) {
  return reinterpret_cast<LayerRecord*>(buffer.data() + sizeof(NetworkHeader));
}

using Used = std::array<bool, kWeightForms>;

// Dense weights always, as the rule may take them for any number of rows; unless it takes nibbles.
Used used_forms(const PlanView& plan, const NetworkView& network, std::int64_t layer) {
  Used used{};
  for (const std::int64_t rows : kRowsOfClass)
    for (const bool threaded : {false, true})
      used[static_cast<int>(plan.kernel(layer, shape_of(network, layer, rows), threaded).form)] =
          true;
  if (!used[static_cast<int>(WeightForm::kNibbles)])
    used[static_cast<int>(WeightForm::kDense)] = network.has_form(layer, WeightForm::kDense);
  return used;
}

std::uint64_t first_section(const LayerRecord& record) {
  for (const auto& place : record.forms)
    if (place.bytes != 0) return place.offset;
  return 0;
}

}  // namespace

Status write_plan(const KernelTable& kernels, std::span<const int> choices,
                  std::span<const int> threaded, std::int64_t block_rows,
                  std::span<std::byte> buffer) {
  Result<NetworkView> viewed = view_network(buffer);
  if (!viewed.ok()) return std::move(viewed).status();
  const NetworkView& network = *viewed;
  for (const std::span<const int> own : {choices, threaded.empty() ? choices : threaded})
    if (Status bad = check_choices(kernels, network, own); !bad.ok()) return bad;
  if (block_rows < kBlockRowsStep || block_rows > kMaxBlockRows)
    return Status::invalid("block_rows", "32 to 1024", std::to_string(block_rows));
  write_block_rows(kernels, block_rows, buffer);
  LayerRecord* const records = records_of(buffer);
  for (std::int64_t i = 0; i < network.layers(); ++i)
    for (int c = 0; c < kRowClasses; ++c) {
      const auto at = static_cast<std::size_t>(i * kRowClasses + c);
      records[i].kernels[c] = static_cast<std::uint8_t>(choices[at] + 1);
      if (c >= kFirstThreadedClass)
        records[i].threaded[c - kFirstThreadedClass] =
            threaded.empty() ? std::uint8_t{0} : static_cast<std::uint8_t>(threaded[at] + 1);
    }
  return {};
}

Status write_ruled_plan(const KernelTable& kernels, std::span<std::byte> buffer) {
  Result<NetworkView> viewed = view_network(buffer);
  if (!viewed.ok()) return std::move(viewed).status();
  const NetworkView& network = *viewed;
  std::vector<int> choices;
  for (std::int64_t i = 0; i < network.layers(); ++i)
    for (const std::int64_t rows : kRowsOfClass)
      choices.push_back(ruled_index(kernels, network, i, rows));
  write_block_rows(kernels, 0, buffer);
  return write_plan(kernels, choices, {}, PlanView(kernels, network).block_rows(), buffer);
}

void write_block_rows(const KernelTable& kernels, std::int64_t block_rows,
                      std::span<std::byte> buffer) {
  NetworkHeader& header = header_of(buffer);
  header.plan_isa = static_cast<std::uint32_t>(rung_of(kernels)) + 1;
  header.block_rows = static_cast<std::uint32_t>(block_rows);
}

Result<std::size_t> drop_unused_forms(const KernelTable& kernels, std::span<std::byte> buffer) {
  Result<NetworkView> viewed = view_network(buffer);
  if (!viewed.ok()) return std::move(viewed).status();
  const NetworkView& network = *viewed;
  const PlanView plan(kernels, network);
  std::vector<Used> used;
  for (std::int64_t i = 0; i < network.layers(); ++i) used.push_back(used_forms(plan, network, i));
  LayerRecord* const records = records_of(buffer);
  const auto move = [&](std::uint64_t& offset, std::uint64_t bytes, std::uint64_t to) {
    std::memmove(buffer.data() + to, buffer.data() + offset, bytes);
    offset = to;
    return to + bytes;
  };
  std::uint64_t at = first_section(records[0]);
  for (std::int64_t i = 0; i < network.layers(); ++i) {
    for (int f = 0; f < kWeightForms; ++f) {
      auto& place = records[i].forms[f];
      if (place.bytes == 0) continue;
      if (!used[static_cast<std::size_t>(i)][static_cast<std::size_t>(f)]) {
        place = {0, 0};
        continue;
      }
      at = move(place.offset, place.bytes, at);
    }
    if (records[i].zeros_bytes != 0) at = move(records[i].zeros_offset, records[i].zeros_bytes, at);
  }
  header_of(buffer).bytes = at;
  return static_cast<std::size_t>(at);
}

}  // namespace fastmnist
