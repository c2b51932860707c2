// The computing part of the fake server: values in memory, computed at once, and jobs that end when the test says so.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include <kj/async.h>

#include <capstan/client/compute.h>
#include <capstan/schema/compute.capnp.h>

namespace capstan::client {

struct FakeTree;

struct FakeJob {
  JobStatus status;
  std::string key;
  Result<ComputedValue> result = Error{ErrorCode::IO, "not computed yet", {}};
  kj::Own<kj::PromiseFulfiller<void>> fulfiller;
  kj::Maybe<kj::ForkedPromise<void>> whenEnded;
};

// Outlives the connections, as the tree does.
struct FakeComputing {
  uint64_t readLimit = 1 << 20;  // bytes that Value.read() answers at most
  uint32_t pageSize = 2;         // jobs that list() answers at once
  kj::Maybe<kj::ForkedPromise<void>> valuesHeldUntil;
  std::string idPrefix = "job-";
  bool holdJobs = false;       // they run until end() is called
  uint64_t bytesToClient = 0;  // by read() and stream()
  std::vector<std::shared_ptr<FakeJob>> jobs;

  FakeJob* find(const std::string& id);
  // Ends a job that is held: done, or with the error.
  void end(FakeJob& job, kj::Maybe<Error> error = nullptr);
};

// `tree` counts its calls and asks the test before each.
schema::Compute::Client newFakeCompute(FakeTree& tree);

}  // namespace capstan::client
