// Putting what is staged into its place, and what stood there into the trash if the mutation is part of a run: without
// a moment in which either is nowhere. What is done is told to the run here, so that it can be undone.
#pragma once

#include <optional>
#include <string>

#include <capstan/storage/mutation.h>
#include <capstan/storage/replace.h>
#include <capstan/storage/run.h>

namespace capstan::storage {

// What place() has done.
struct Placed {
  bool replaced = false;
  uint64_t number = 0;  // of what was displaced, in the run's folder
  struct stat before {};
};

// Moves what is staged to its place under the expectation; `found` is what was seen there, checked already and not a
// folder. What was displaced is the run's, or is thrown away. After an error what was staged is at `from` again. With
// `origin`, what is moved is in the trash itself, and has to go back there after a crash (see Run::reserve).
Result<Placed> place(Round& round, const Move& move, const Expectation& expectation,
                     const std::optional<struct stat>& found, const std::string& origin = {});

// Run::reserve() for the round's run, with an error that names the path.
Result<Run::Slot> reserve(Round& round, const std::string& path, const std::string& from, const struct stat& displaced,
                          const std::string& origin = {}, uint64_t placed = 0);

// Moves something out of the tree into the run's trash: a file, or a folder with all that is in it. `expected`: only
// if it is that still, else it is put back (conflict).
Result<Run::Slot> takeOut(Round& round, const Root::Place& place, const std::string& path, const struct stat& found,
                          bool expected);

// These tell the run, if there is one.
void tellPlaced(Round& round, const Placed& placed, const std::string& path, const Entry& entry);
void tellCreated(Round& round, const std::string& path, const Version& version, EntryType type, bool whole = false);
void tellRemoved(Round& round, const std::string& path, uint64_t number, const struct stat& found);

}  // namespace capstan::storage
