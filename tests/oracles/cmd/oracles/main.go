// Command oracles answers what other tools make of an object, by their own libraries: each line of standard input is a question,
// each line of standard output its answer.
//
//	{"oracle": "kstatus", "object": {…}}  →  {"status": "Current", "message": "…"}
//
// An answer that could not be had is {"error": "…"}. What an oracle wants beside the object stands at its function.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// question is what all oracles are asked; each has its own use of some fields.
type question struct {
	Oracle string          `json:"oracle"`
	Object json.RawMessage `json:"object"`
	// Expressions by their names, for those that evaluate some.
	Expressions map[string]string `json:"expressions"`
	// Script is Lua.
	Script string `json:"script"`
	// Zone is what local time is ahead of UTC, in seconds.
	Zone int `json:"zone"`
}

// answer is a JSON object.
type answer map[string]any

var oracles = map[string]func(question, *unstructured.Unstructured) (answer, error){
	"kstatus":                   kstatus,
	"flux-conditions":           fluxConditions,
	"flux-health":               fluxHealth,
	"argocd-health":             argocdHealth,
	"argocd-actions":            argocdActions,
	"argocd-action":             argocdAction,
	"argo-workflows-conditions": workflowConditions,
	"cel":                       celExpressions,
}

func reply(line []byte) (result answer) {
	// A library that panics over one object is to tell of it, not to end the others' questions.
	defer func() {
		if reason := recover(); reason != nil {
			result = answer{"error": fmt.Sprint("panic: ", reason)}
		}
	}()
	var asked question
	if err := json.Unmarshal(line, &asked); err != nil {
		return answer{"error": err.Error()}
	}
	oracle, known := oracles[asked.Oracle]
	if !known {
		return answer{"error": fmt.Sprintf("no oracle %q", asked.Oracle)}
	}
	// By its own reader: numbers become int64, as in the tools; encoding/json would make floats of them.
	object := &unstructured.Unstructured{}
	if err := object.UnmarshalJSON(asked.Object); err != nil {
		return answer{"error": err.Error()}
	}
	result, err := oracle(asked, object)
	if err != nil {
		return answer{"error": err.Error()}
	}
	return result
}

func main() {
	in, out := bufio.NewReader(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		if err := out.Encode(reply(line)); err != nil {
			fmt.Fprintln(os.Stderr, "oracles:", err)
			os.Exit(1)
		}
	}
}
