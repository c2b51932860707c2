// What a submit has brought along for as long as it is not known whether a job comes of it.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include <kj/common.h>

#include <capstan/server/compute/jobs/jobs.h>
#include <capstan/server/compute/jobs/stored-task.h>

namespace capstan::server::compute {

// The input files of a task that is being submitted: removed with it, unless a job has them.
class SubmittedInputs {
 public:
  SubmittedInputs(Jobs& jobs, const StoredTask& task) : jobs(jobs), names(inputFilesOf(task)) {}
  ~SubmittedInputs() {
    *unwanted = true;
    for (auto& name : names) jobs.removeInput(std::move(name));
  }
  KJ_DISALLOW_COPY(SubmittedInputs);

  // Set when nobody waits any more.
  const std::shared_ptr<std::atomic<bool>> unwanted = std::make_shared<std::atomic<bool>>(false);

  void handOver() { names.clear(); }

 private:
  Jobs& jobs;
  std::vector<std::string> names;
};

}  // namespace capstan::server::compute
