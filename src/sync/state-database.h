// The files of the synchroniser's states: names, lock, tables and their versions, and what becomes of a damaged one.
#pragma once

#include <string>
#include <vector>

#include <kj/io.h>

#include <capstan/storage/database.h>
#include <capstan/sync/state.h>

namespace capstan::sync {

// userStateFolder()/sync, or the folder that was given.
std::string stateFolderOr(const std::string& folder);
// The database of this pair in the folder. Beside it: "NAME-wal" and "-shm" (SQLite's), "NAME.lock", and
// "NAME.is-damaged" after damage was found, for the next who opens it.
std::string stateFileOf(const std::string& folder, const State::Pair& pair);
// The databases in a folder, sorted; none if it is not there.
std::vector<std::string> stateFilesIn(const std::string& folder);

struct StateFile {
  kj::AutoCloseFd lock;
  storage::Database database;
  bool wasLost = false;
};

// Opens or makes it, in the latest version. Errors as of State::open.
Result<StateFile> openStateFile(const std::string& file);
Result<storage::Database> openStateToRead(const std::string& file);
Result<storage::Database> openStateInMemory();

// To be moved aside when it is opened next.
void markDamaged(const std::string& file);

// The newest version of the tables, which this program writes.
extern const int64_t STATE_VERSION;

}  // namespace capstan::sync
