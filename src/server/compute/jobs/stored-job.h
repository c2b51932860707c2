// What is known of a job beyond its task, as plain data: how it came, and how far it is. What the journal keeps, and
// what a JobRecord holds.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <capstan/base/clock.h>
#include <capstan/base/file.h>
#include <capstan/server/compute/content.h>
#include <capstan/server/compute/jobs/stored-task.h>

namespace capstan::server::compute {

// The numbers of JobState in schema/compute.capnp.
enum class JobState : uint16_t { UNSET, QUEUED, RUNNING, DONE, FAILED, CANCELLED };
inline bool hasEnded(JobState state) { return state >= JobState::DONE; }

// A job's result that is as large as this or smaller is in the journal itself; others are in a spool file.
inline constexpr size_t JOURNALED_RESULT_BYTES = 4096;

// What is about to be placed at the output's path, noted before it is: by it the next server tells whether it was.
struct Placing {
  uint64_t size = 0;
  std::string digest;  // XXH3 of the bytes as they are delivered; empty: nothing was about to be placed
};

// The part of a job that changes. Times are nanoseconds since the epoch, 0: not yet.
struct JobProgress {
  JobState state = JobState::QUEUED;
  int64_t started = 0;
  int64_t ended = 0;
  uint32_t starts = 0;
  uint32_t stops = 0;  // of these, how many were ended by a server that stopped in order
  Placing placing;
  ContentInfo result;                      // DONE, or something is about to be placed
  std::optional<std::string> resultBytes;  // a small result that is kept; else it is a file or was placed
  Error error;                             // FAILED
};

// The part that stays.
struct JobOrigin {
  uint64_t sequence = 0;  // counts up in the order in which jobs are submitted
  std::string id;
  std::string grant;
  std::string key;          // empty: none
  std::string fingerprint;  // empty without a key
  JobKind kind = JobKind::UNSET;
  std::string label;
  std::optional<std::string> output;
  int64_t submitted = 0;
};

// The spool file of a result.
inline std::string resultFileOf(const std::string& id) { return id + ".result"; }

}  // namespace capstan::server::compute
