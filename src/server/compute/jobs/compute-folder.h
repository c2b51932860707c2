// The folder that one server has for computing, beside those of other servers on the same root: how it is chosen and
// locked, and how what dead servers left in theirs gets into it.
#pragma once

#include <string>
#include <string_view>

#include <kj/io.h>

#include <capstan/base/error.h>

namespace capstan::server::compute {

// Belongs to this process as long as the lock is open.
struct LockedFolder {
  std::string path;
  kj::AutoCloseFd lock;
};

// ROOT/.capstan/compute/HOST or, where other servers of this host run on the same root, HOST-2 and so on: the first
// that is free. Makes it if need be. Blocks. Errors: limit, noSpace, io.
Result<LockedFolder> lockComputeFolder(const std::string& root);

// Moves the jobs of all folders beside `own` that no server uses into it, so that no job waits in a folder which nobody
// may ever choose again. To be called before the journal in `own` is opened, which completes it (see
// JobJournal::open). It may be killed at any moment: each job is then in the one folder or in the other, with its
// files, and the next call goes on. What cannot be moved is logged and stays where it is. Blocks.
void adoptComputeFolders(const LockedFolder& own);

// Files of jobs in a compute folder: of that name, and of a result.
inline constexpr std::string_view INPUT_MARK = ".input-";
inline constexpr std::string_view RESULT_SUFFIX = ".result";
inline bool belongsToJobs(std::string_view name) {
  return name.ends_with(RESULT_SUFFIX) || name.find(INPUT_MARK) != std::string::npos;
}

// Journals that were moved here and are not part of the folder's own yet: then there may be files of unknown jobs.
inline constexpr std::string_view ADOPTED_PREFIX = "adopted-";
inline bool isAdoptedJournal(std::string_view name) {
  return name.starts_with(ADOPTED_PREFIX) && name.ends_with(".db");
}

}  // namespace capstan::server::compute
