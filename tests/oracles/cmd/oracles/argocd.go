package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	luajson "layeh.com/gopher-json"
)

// Argo CD stops a script after this time.
const luaLimit = time.Second

// What a health script may say; anything else becomes Unknown.
var healths = map[string]bool{
	"Healthy": true, "Progressing": true, "Degraded": true, "Suspended": true, "Missing": true, "Unknown": true,
}

// argocdHealth: what the health script says of the object.
func argocdHealth(asked question, object *unstructured.Unstructured) (answer, error) {
	said, err := runLua(asked, object)
	if err != nil {
		return nil, err
	}
	var health struct{ Status, Message string }
	if err := json.Unmarshal(said, &health); err != nil {
		return nil, err
	}
	if !healths[health.Status] {
		return nil, fmt.Errorf("no health status of Argo CD: %q", health.Status)
	}
	return answer{"status": health.Status, "message": health.Message}, nil
}

// argocdActions: the actions that the discovery script offers, by name, and whether each is disabled.
func argocdActions(asked question, object *unstructured.Unstructured) (answer, error) {
	said, err := runLua(asked, object)
	if err != nil {
		return nil, err
	}
	var actions map[string]struct{ Disabled bool }
	if err := json.Unmarshal(said, &actions); err != nil {
		return nil, err
	}
	disabled := answer{}
	for name, action := range actions {
		disabled[name] = action.Disabled
	}
	return answer{"disabled": disabled}, nil
}

// argocdAction: the object as the script of an action makes it.
func argocdAction(asked question, object *unstructured.Unstructured) (answer, error) {
	said, err := runLua(asked, object)
	if err != nil {
		return nil, err
	}
	made := &unstructured.Unstructured{}
	if err := made.UnmarshalJSON(said); err != nil {
		return nil, err
	}
	return answer{"object": withEmptyMaps(made.Object, object.Object)}, nil
}

// An empty table of Lua comes back as an empty list; Argo CD, too, makes it a map again where it was one.
func withEmptyMaps(made, before map[string]any) map[string]any {
	for key, value := range made {
		was, isMap := before[key].(map[string]any)
		if !isMap {
			continue
		}
		switch now := value.(type) {
		case map[string]any:
			made[key] = withEmptyMaps(now, was)
		case []any:
			if len(now) == 0 {
				made[key] = map[string]any{}
			}
		}
	}
	return made
}

// runLua runs a script as Argo CD does one that is not its own: with the libraries package, base and table, and of os no more than
// the time, which has to be required. There is no string and no math. What it returns comes back as JSON.
func runLua(asked question, object *unstructured.Unstructured) ([]byte, error) {
	time.Local = time.FixedZone("", asked.Zone)
	vm := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer vm.Close()
	for _, library := range []struct {
		name string
		open lua.LGFunction
	}{{lua.LoadLibName, lua.OpenPackage}, {lua.BaseLibName, lua.OpenBase}, {lua.TabLibName, lua.OpenTable}} {
		vm.Push(vm.NewFunction(library.open))
		vm.Push(lua.LString(library.name))
		vm.Call(1, 0)
	}
	vm.PreloadModule(lua.OsLibName, safeOS)
	ctx, cancel := context.WithTimeout(context.Background(), luaLimit)
	defer cancel()
	vm.SetContext(ctx)
	vm.SetGlobal("obj", luajson.DecodeValue(vm, floats(object.Object)))
	if err := vm.DoString(asked.Script); err != nil {
		return nil, err
	}
	said := vm.Get(-1)
	if said.Type() != lua.LTTable {
		return nil, fmt.Errorf("the script returns a %s in place of a table", said.Type())
	}
	return luajson.Encode(said)
}

func safeOS(vm *lua.LState) int {
	// Opened in a state of its own: here, it would be there without being required.
	other := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer other.Close()
	lua.OpenOs(other)
	safe := vm.NewTable()
	for _, name := range []string{"time", "date"} {
		if function, is := other.GetField(other.GetGlobal(lua.OsLibName), name).(*lua.LFunction); is {
			safe.RawSetString(name, vm.NewFunction(function.GFunction))
		}
	}
	vm.Push(safe)
	return 1
}

// floats has the numbers as Lua has them: luajson knows no int64.
func floats(value any) any {
	switch value := value.(type) {
	case int64:
		return float64(value)
	case []any:
		made := make([]any, len(value))
		for at, item := range value {
			made[at] = floats(item)
		}
		return made
	case map[string]any:
		made := make(map[string]any, len(value))
		for key, item := range value {
			made[key] = floats(item)
		}
		return made
	}
	return value
}
