// Seeded simulation of whole synchronisers. CAPSTAN_SIM_RUNS says how many lives, CAPSTAN_SIM_SEED the first of them
// (by default as many as fit into some seconds, and with CAPSTAN_TEST_LONG=1 100,000); a life that fails prints its
// seed.
#include <chrono>
#include <cstdlib>
#include <iostream>

#include <gtest/gtest.h>

#include "simulation.h"

namespace capstan::sync::sim {
namespace {

uint64_t fromEnvironment(const char* name, uint64_t otherwise) {
  auto text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

bool isLong() { return fromEnvironment("CAPSTAN_TEST_LONG", 0) == 1; }

Life live(uint64_t seed) {
  Simulation simulation(seed);
  return simulation.run();
}

bool keepsPromises(uint64_t seed) {
  Life life = live(seed);
  if (life.complaints.empty()) return true;
  std::string text;
  for (auto& complaint : life.complaints) text += complaint + "\n";
  ADD_FAILURE() << "CAPSTAN_SIM_SEED=" << seed << " CAPSTAN_SIM_RUNS=1\n" << text;
  if (fromEnvironment("CAPSTAN_SIM_RUNS", 0) == 1) std::cerr << life.trace;
  return false;
}

TEST(SyncSimulation, EveryPromiseIsKeptWhateverGoesWrong) {
  auto seed = fromEnvironment("CAPSTAN_SIM_SEED", 1);
  auto runs = fromEnvironment("CAPSTAN_SIM_RUNS", isLong() ? 100'000 : 0);
  auto end = std::chrono::steady_clock::now() + std::chrono::seconds(4);
  constexpr uint64_t MAX_FAILURES = 20;
  uint64_t done = 0, failed = 0;
  while (runs > 0 ? done < runs : std::chrono::steady_clock::now() < end) {
    if (!keepsPromises(seed + done++)) ++failed;
    if (failed == MAX_FAILURES) break;
  }
  RecordProperty("lives", static_cast<int>(done));
  std::cout << done << " lives from seed " << seed << "\n";
}

TEST(SyncSimulation, TheSameSeedGivesTheSameTrace) {
  auto seed = fromEnvironment("CAPSTAN_SIM_SEED", 1);
  auto runs = std::max<uint64_t>(50, fromEnvironment("CAPSTAN_SIM_RUNS", isLong() ? 100'000 : 0) / 100);
  for (uint64_t i = 0; i < runs; ++i)
    EXPECT_EQ(live(seed + i * 100).trace, live(seed + i * 100).trace) << seed + i * 100;
}

}  // namespace
}  // namespace capstan::sync::sim
