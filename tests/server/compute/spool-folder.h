// A folder of its own for each test of computing, with a Spool in it; removed at the end.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>

#include <gtest/gtest.h>

#include <capstan/server/compute/spool.h>

namespace capstan::server::compute {

class SpoolFolder : public ::testing::Test {
 protected:
  SpoolFolder() {
    char name[] = "/tmp/capstan-compute-test-XXXXXX";
    folder = mkdtemp(name);
    spool = std::move(Spool::open(folder).value());
  }
  ~SpoolFolder() override { std::filesystem::remove_all(folder); }

  std::ptrdiff_t filesInFolder() const { return std::distance(std::filesystem::directory_iterator(folder), {}); }

  std::string folder;
  std::unique_ptr<Spool> spool;
};

}  // namespace capstan::server::compute
