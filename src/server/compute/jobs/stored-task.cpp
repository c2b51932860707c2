#include <capstan/server/compute/jobs/stored-task.h>
